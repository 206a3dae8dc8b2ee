"""PIAAC (OECD Survey of Adult Skills): adults, not in schools.

Names and variance method
    EdSurvey 4.1, Rrepest 1.6 and intsvy (R). The replication method differs by country and is read from VEMETHODN:
    1 jackknife 1, 2 jackknife 2, 3 BRR, 4 Fay with the factor VEFAYFAC; VENREPS replicates.
Weighting
    No suggestion for multilevel models exists: Nguyen & Kelley (2018), Table 1. The user chooses.
Left out
    Weights of areas or households: there are none in the public files.
"""

from __future__ import annotations

from pmwmix.surveys._base import NAMES, SCHEMES, register

NO_ANSWER = (
    *("Don't know", "Not stated or inferred", "Valid skip", "Refused", "Don't know/refused", "No response"),
    *("Not reached/not attempted", "All zero response"),
)
for _cycle, _third in ((1, {"psl": "PVPSL{}"}), (2, {"aps": "PVAPS{}"})):
    register(
        name=f"piaac-{_cycle}",
        title=f"PIAAC cycle {_cycle}",
        rows="adult",
        outcome="lit",
        advice="No suggestion exists: choose the weights.",
        choices={"SPFWT0": "adult"},
        strata="VARSTRAT",
        psu="VARSTRAT:VARUNIT",
        lonely_psu="centre",
        replicate_weights="SPFWT{}",
        method_columns=("VEMETHODN", "VENREPS", "VEFAYFAC"),
        pv={"lit": "PVLIT{}", "num": "PVNUM{}", **_third},
        ids={"country": "CNTRYID"},
        no_answer=NO_ANSWER,
        sources=(SCHEMES, NAMES),
        remarks=("Up to 80 replicates; the method is read from VEMETHODN, which differs by country.",),
    )
