"""HSLS:09 (NCES High School Longitudinal Study): students of grade 9 in 2009, followed up.

Names and variance method
    EdSurvey 4.1 (R): 200 BRR replicates without Fay's factor, named after their weight (W1STUDENT001, ...); PSU and
    STRAT_ID, suppressed in the public files.
Weighting
    Not in Table 1 of Nguyen & Kelley (2018); we know of no suggestion for multilevel models. The user chooses.
Left out
    Plausible values: there are none.
"""

from __future__ import annotations

from pmwmix.surveys._base import NAMES, register

register(
    name="hsls-2009",
    title="HSLS:09",
    advice="We know of no suggestion: choose the weights of the rounds in the model.",
    choices={"W1STUDENT": "student, base year", "W1SCHOOL": "school, base year"},
    strata="STRAT_ID",
    psu="STRAT_ID:PSU",
    lonely_psu="centre",
    replicates_by_weight={r"(W\d.*\D)": r"\1{}"},
    replicate_type="brr",
    ids={"school": "SCH_ID", "student": "STU_ID"},
    sources=(NAMES,),
    remarks=("200 replicates, which follow from the weight that is chosen for the rows.",),
)
