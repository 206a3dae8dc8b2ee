"""ECLS-K (NCES), kindergarten cohorts of 1998 and 2011: children followed over rounds, one weight per set of rounds.

Names and variance method
    EdSurvey 4.1 (R). 2011: weight W1C0 has replicates W1C1, W1C2, ..., strata W1C0STR and PSU W1C0PSU; multiplier 1.
    1998: weight C1CW0 has replicates C1CW1-90; names of its strata and PSU are irregular (C47FCSTR, C47FCPSU).
Weighting
    No suggestion for multilevel models: Nguyen & Kelley (2018), Table 1. The user chooses the weight of the rounds.
Left out
    School ids, strata and PSU of 1998 in general: not checked. There are no plausible values.
"""

from __future__ import annotations

from pmwmix.surveys._base import NAMES, SCHEMES, register

NO_ANSWER = (
    *("Not applicable", "Data suppressed", "Refused", "Don't know", "Not ascertained"),
    *("Data suppressed, insufficient practice due to programming error", "Data suppressed for administration error"),
    "Abbreviated survey (item not fielded)",
)
register(
    name="eclsk-2011",
    title="ECLS-K:2011",
    rows="child",
    advice="No suggestion exists: choose the weight of the rounds in the model.",
    choices={"W1C0": "child, round 1", "W12AC0": "child, rounds 1 and 2", "W2SCH0": "school, round 2"},
    strata="{weight}STR",
    psu="{weight}STR:{weight}PSU",
    lonely_psu="centre",
    replicates_by_weight={r"(.+)0": r"\1{}"},
    replicate_type="jk2",
    no_answer=NO_ANSWER,
    sources=(SCHEMES, NAMES),
    remarks=("Replicates, strata and PSU follow from the weight that is chosen for the rows.",),
)
register(
    name="eclsk-1998",
    title="ECLS-K:1998",
    rows="child",
    advice="No suggestion exists: choose the weight of the rounds in the model.",
    choices={"C1CW0": "child, round 1", "C4_7CW0": "child, rounds 4 to 7"},
    replicates_by_weight={r"(.+)0": r"\1{}"},
    replicate_type="jk2",
    sources=(SCHEMES, NAMES),
    remarks=(
        "90 replicates, which follow from the weight that is chosen for the rows.",
        "Names of strata and PSU are irregular: give them with override(strata=, psu=).",
    ),
)
