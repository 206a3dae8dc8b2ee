"""NAEP (NCES), main assessment: students of grades 4, 8 and 12 in the United States.

Names and variance method
    EdSurvey 4.1 (R) and its user's guide: ORIGWT with SRWT01-62 (jackknife, multiplier 1), school SCRPSU, its weight
    SMSRSWT, strata REPGRP1 with units JKUNIT.
Weighting
    No scaling method is widely used, so no transformation is made; the guide's example of two weights says that it is
    not recommended: Nguyen & Kelley (2018). The user chooses.
Left out
    Score names of other subjects than mathematics (MRPCM), long-term trend weights: not checked.
"""

from __future__ import annotations

from pmwmix.surveys._base import NAMES, SCHEMES, register

register(
    name="naep",
    title="NAEP",
    outcome="composite",
    advice="No scaling method is widely used: choose the weights; nothing is scaled unless you ask.",
    choices={"ORIGWT": "student", "SMSRSWT": "school"},
    strata="REPGRP1",
    psu="REPGRP1:JKUNIT",
    lonely_psu="centre",
    replicate_weights="SRWT{}",
    replicate_type="jk2",
    pv={"composite": "MRPCM{}"},
    ids={"school": "SCRPSU"},
    no_answer=("Multiple", "Omitted"),
    sources=(SCHEMES, NAMES),
    remarks=("62 replicates.", "MRPCM is the mathematics composite; declare other scores with pv=."),
)
