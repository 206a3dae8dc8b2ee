"""PIRLS (IEA): reading in grade 4, with the sample design and weights of TIMSS.

Names and variance method
    RALSA 1.6, EdSurvey 4.1 and ILSAstats 0.4 (R): one-sided jackknife with 75 zones until 2011, two-sided in 2016, two-
    sided with 125 zones in 2021.
Weighting
    "TIMSS method": Nguyen & Kelley (2018), Table 1.
Left out
    Reading subscales: declare them with ``pv=``.
"""

from __future__ import annotations

from pmwmix.surveys.timss import cycle

for _year in (2001, 2006, 2011, 2016, 2021):
    cycle("pirls", "PIRLS", _year, {"read": "ASRREA{}"}, "read", 2016, 2021)
