"""CIVED (IEA Civic Education Study, 1999).

Names and variance method
    RALSA 1.6 and ILSAstats 0.4 (R): TOTWGT, SCHWGT, JKZONE and JKREP, one-sided jackknife with 75 zones.
Weighting
    The user guide makes no suggestion for multilevel models but says that sample design and weighting are those of
    TIMSS: Schulz & Sibberns (2004), cited in Nguyen & Kelley (2018), Table 1. So the TIMSS method is used.
Left out
    The column of the class and the class factors: not checked. Scores are estimates, not plausible values.
"""

from __future__ import annotations

from pmwmix.surveys._base import NAMES, SCHEMES, register
from pmwmix.surveys.iccs import NO_ANSWER

register(
    name="cived-1999",
    title="CIVED 1999",
    outcome="KNOWLMLE|STOTCGML",
    weights={"obs": "TOTWGT", "school": "SCHWGT"},
    scaling="none",
    advice="As TIMSS, whose sample design and weighting it has: total student weight / school weight, nothing scaled.",
    strata="JKZONE",
    psu="school",
    lonely_psu="centre",
    zone="JKZONE",
    rep="JKREP",
    replicate_type="jk2",
    ids={"country": "IDCNTRY|COUNTRY", "school": "IDSCHOOL", "student": "IDSTUD"},
    no_answer=NO_ANSWER,
    sources=(SCHEMES, "Schulz & Sibberns (2004). IEA Civic Education Study technical report. IEA.", NAMES),
    remarks=(
        "75 zones, one replicate each.",
        "No plausible values: KNOWLMLE (grade 8) and STOTCGML (grade 12) are point estimates.",
    ),
)
