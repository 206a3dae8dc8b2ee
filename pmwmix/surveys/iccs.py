"""ICCS (IEA International Civic and Citizenship Education Study): students of grade 8 in whole classes.

Names and variance method
    RALSA 1.6, EdSurvey 4.1 and ILSAstats 0.4 (R); labels of the factors (WGTFAC1 "school base weight", WGTADJ1S "school
    weight adjustment - student study", WGTFAC2S "class base weight") from codebooks of the 2009 and 2016 files.
Weighting
    Student weight = product of the class and student factors, school weight = product of the school factors: Köhler et
    al. (2016), in Nguyen & Kelley (2018), Table 1. TOTWGTS is the product of all factors, so that the student's
    conditional weight is TOTWGTS over that of the school. No scaling is recommended there and none is done.
Left out
    Teachers of ICCS: the school's adjustment in their files was not checked.
"""

from __future__ import annotations

from pmwmix.surveys._base import NAMES, SCHEMES, register

NO_ANSWER = (
    *("Omitted", "Omitted or invalid", "Logically not applicable", "Not applicable", "Missing", "Multiple", "Invalid"),
    *("Not admin", "Not administered", "Not administered/missing by design", "Not reached", "Not stated"),
    "Presented but not answered/invalid",
)
for _year in (2009, 2016, 2022):
    register(
        name=f"iccs-{_year}",
        title=f"ICCS {_year}",
        outcome="civ",
        weights={"obs": "TOTWGTS", "school": "WGTFAC1*WGTADJ1S|TOTWGTC"},
        scaling="none",
        advice=(
            "Product of the class and student factors at level one (TOTWGTS / school weight), "
            "product of the school factors at level two; nothing scaled."
        ),
        strata="JKZONES",
        psu="school",
        lonely_psu="centre",
        replicate_weights="SRWGT{}",
        zone="JKZONES",
        rep="JKREPS",
        replicate_type="jk2",
        pv={"civ": "PV{}CIV"},
        ids={"country": "COUNTRY|IDCNTRY", "school": "IDSCHOOL", "student": "IDSTUD"},
        no_answer=NO_ANSWER,
        sources=(
            SCHEMES,
            "Köhler, Weber, Brese, Schulz & Carstens (2016). ICCS 2016 user guide for the international database. IEA.",
            NAMES,
        ),
        remarks=(
            "75 zones, one replicate each, as columns or made from zones.",
            "TOTWGTC is the school questionnaire's weight: taken where the factors are not in the table.",
        ),
    )
