"""TIMSS Advanced (IEA): students of advanced mathematics or physics at the end of school.

Names and variance method
    RALSA 1.6 and ILSAstats 0.4 (R): one-sided jackknife with 75 zones in 1995 and 2008, two-sided in 2015.
Weighting
    "TIMSS method": Nguyen & Kelley (2018), Table 1.
"""

from __future__ import annotations

from pmwmix.surveys.timss import cycle

for _year in (1995, 2008, 2015):
    cycle(
        "timss-advanced", "TIMSS Advanced", _year, {"math": "MSMMAT{}", "phys": "PSPPHY{}"}, "math|phys", 2015, 9999,
        remarks=("Mathematics and physics students are different samples in different files.",),
    )  # fmt: skip
