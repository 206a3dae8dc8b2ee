"""PISA (OECD): 15-year-olds in schools; one entry per cycle because names changed in 2003, 2006, 2009, 2012 and 2015.

Names and variance method
    EdSurvey 4.1, RALSA 1.6 and Rrepest 1.6 (R); repest (Stata); the OECD's syntax files and codebooks for the school
    weights of 2000 (WNRSCHBW) and of 2015 to 2022 (W_SCHGRNRABWT, "grade nonresponse adjusted school base weight").
    SCWEIGHT, 2003: the school weight that the data behind learningtower (R) take from the OECD's school file of 2003
    (variable_curation/PISA_variable_curation_school.csv of learningtower_masonry), and in RALSA's list of weights.
Weighting
    Method A for level one, no scaling above: Nguyen & Kelley (2018), Table 1, after Koretz et al. (2001).
Left out
    PISA 2025, and weights of the parent and teacher files: not checked.
"""

from __future__ import annotations

from typing import Any

from pmwmix.surveys._base import KORETZ, NAMES, SCHEMES, register

NO_ANSWER = (
    *("Valid Skip", "Not Reached", "Not Applicable", "N/A", "Invalid", "No Response", "Missing", "Miss", "Mis", "M/R"),
)
OECD = "OECD, PISA technical reports and codebooks of the cycle."
SCH_SUM = "W_FSTUWT_SCH_SUM sums the weights of a school's students: it is no school weight."
UNITS = "EdSurvey takes {} inside WVARSTRR as PSU; here it is the school, the first sampling stage."


def _cycle(year: int, outcome: str, subjects: str, school: str, **more: Any) -> None:
    recent = year >= 2015
    ids = (
        {"country": "CNT|CNTRYID", "school": "CNTSCHID", "student": "CNTSTUID"}
        if recent
        else {"country": "CNT|COUNTRY", "school": "SCHOOLID", "student": "STIDSTD"}
    )
    remarks = tuple(more.pop("remarks", ()))
    register(
        name=f"pisa-{year}",
        title=f"PISA {year}",
        outcome=outcome,
        weights={"obs": "W_FSTUWT", "school": school},
        scaling="size",
        lowest_only=True,
        advice="Student weight scaled to the cluster size (Method A) at level one, nothing scaled above.",
        psu="school",
        lonely_psu="centre",
        replicate_weights="W_FSTURWT{}" if recent else "W_FSTR{}",
        replicate_type="fay",
        fay=0.5,
        pv={subject.lower(): f"PV{{}}{subject}" for subject in subjects.split()},
        ids=ids,
        no_answer=NO_ANSWER,
        sources=(SCHEMES, KORETZ, OECD, NAMES),
        remarks=(*remarks, "80 replicates.", SCH_SUM),
        **more,
    )


_cycle(
    2000,
    "read",
    "READ MATH SCIE",
    "WNRSCHBW",
    remarks=(
        "Reading, mathematics and science files each have a W_FSTUWT of their own: take that of the outcome's file.",
    ),
)
_cycle(
    2003,
    "math",
    "MATH READ SCIE PROB",
    "SCWEIGHT",
    strata="WVARSTRR",
    remarks=(UNITS.format("UNIT"), "School weight as in learningtower and RALSA (R packages)."),
)
_cycle(2006, "scie", "SCIE MATH READ", "W_FSCHWT", strata="WVARSTRR", remarks=(UNITS.format("RANDUNIT"),))
_cycle(2009, "read", "READ MATH SCIE", "W_FSCHWT", strata="WVARSTRR", remarks=(UNITS.format("RANDUNIT"),))
_cycle(2012, "math", "MATH READ SCIE", "W_FSCHWT", strata="WVARSTRR", remarks=(UNITS.format("VAR_UNIT"),))
_cycle(2015, "scie", "SCIE MATH READ", "W_SCHGRNRABWT", strata="WVARSTRR", remarks=(UNITS.format("UNIT"),))
_cycle(2018, "read", "READ MATH SCIE GLCM", "W_SCHGRNRABWT", strata="WVARSTRR", remarks=(UNITS.format("UNIT"),))
_cycle(2022, "math", "MATH READ SCIE", "W_SCHGRNRABWT", strata="WVARSTRR", remarks=(UNITS.format("UNIT"),))
