"""ICILS (IEA International Computer and Information Literacy Study): students of grade 8, and their teachers.

Names and variance method
    RALSA 1.6, EdSurvey 4.1 and ILSAstats 0.4 (R).
Weighting
    Level one: product of the student-level (or teacher-level) factors. Level two: the school's selection weight
    adjusted for non-response, WGTFAC1 x WGTADJ1S for students and WGTFAC1 x WGTADJ1T for teachers: Jung & Carstens
    (2015), in Nguyen & Kelley (2018), Table 1. TOTWGTS (TOTWGTT) is the product of all factors, so that the conditional
    weight is that over the school's. No scaling is recommended there and none is done.
Left out
    A fallback for tables without the factors: the school questionnaire's weight TOTWGTC has another adjustment.
"""

from __future__ import annotations

from typing import Any

from pmwmix.surveys._base import NAMES, SCHEMES, register

NO_ANSWER = (
    *("Omitted", "Omitted or invalid", "Logically not applicable", "Not applicable", "Missing", "Not reached"),
    *("Not stated", "Not administered/missing by design", "Not administered or missing by design"),
    *("Presented but not answered/invalid", "Presented but not answered or invalid"),
)
GUIDE = "Jung & Carstens (2015). ICILS 2013 user guide for the international database. IEA."


def _cycle(year: int, letter: str, rows: str, **more: Any) -> None:
    register(
        name=f"icils-{year}" if rows == "student" else f"icils-{year}-teachers",
        title=f"ICILS {year}" if rows == "student" else f"ICILS {year}, teachers",
        rows=rows,
        weights={"obs": f"TOTWGT{letter}", "school": f"WGTFAC1*WGTADJ1{letter}"},
        scaling="none",
        advice=(
            f"Product of the {rows}-level factors at level one (TOTWGT{letter} / school weight), "
            f"WGTFAC1 x WGTADJ1{letter} at level two; nothing scaled."
        ),
        strata=f"JKZONE{letter}",
        psu="school",
        lonely_psu="centre",
        replicate_weights=f"{letter}RWGT{{}}",
        zone=f"JKZONE{letter}",
        rep=f"JKREP{letter}",
        replicate_type="jk2",
        no_answer=NO_ANSWER,
        sources=(SCHEMES, GUIDE, NAMES),
        remarks=("75 zones, one replicate each, as columns or made from zones.",),
        **more,
    )


for _year in (2013, 2018, 2023):
    _pv = {"cil": "PV{}CIL"} if _year == 2013 else {"cil": "PV{}CIL", "ct": "PV{}CT"}
    _ids = {"country": "CNTRY|IDCNTRY", "school": "IDSCHOOL"}
    _cycle(_year, "S", "student", pv=_pv, outcome="cil", ids={**_ids, "student": "IDSTUD"})
    _cycle(_year, "T", "teacher", ids={**_ids, "teacher": "IDTEACH"})
