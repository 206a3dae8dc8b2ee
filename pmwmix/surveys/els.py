"""ELS:2002 (NCES Education Longitudinal Study): students of grade 10 in 2002, followed up.

Names and variance method
    EdSurvey 4.1 (R): 200 BRR replicates without Fay's factor, whose names follow from the weight by a list; PSU and
    STRAT_ID. Weights and replicates of the restricted files are not listed.
Weighting
    No suggestion for multilevel models: Nguyen & Kelley (2018), Table 1. The user chooses.
Left out
    Ids of schools: not checked. There are no plausible values.
"""

from __future__ import annotations

from pmwmix.surveys._base import NAMES, SCHEMES, register

STEMS = {
    "BYSTUWT": "BYSTU", "F1QWT": "F1Q", "F1PNLWT": "F1PNL", "F1TRSCWT": "F1TRS", "F2QWT": "F2Q", "F2QTSCWT": "F2TRS",
    "F2BYWT": "F2BYP", "F2F1WT": "F2F1P", "F3QWT": "F3Q", "F3BYPNLWT": "F3BYP", "F3F1PNLWT": "F3F1P",
    "F3QTSCWT": "F3TRS", "F3BYTSCWT": "F3BYT", "F3F1TSCWT": "F3F1T", "BYSCHWT": "BYSCH",
}  # fmt: skip
register(
    name="els-2002",
    title="ELS:2002",
    advice="No suggestion exists: choose the weights of the rounds in the model.",
    choices={"BYSTUWT": "student, base year", "F1QWT": "student, first follow-up", "BYSCHWT": "school, base year"},
    strata="STRAT_ID",
    psu="STRAT_ID:PSU",
    lonely_psu="centre",
    replicates_by_weight={weight: f"{stem}{{}}" for weight, stem in STEMS.items()},
    replicate_type="brr",
    sources=(SCHEMES, NAMES),
    remarks=("200 replicates, which follow from the weight that is chosen for the rows.",),
)
