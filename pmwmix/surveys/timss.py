"""TIMSS (IEA): whole classes of grade 4 or 8 inside schools; cycles differ in the jackknife.

Names and variance method
    RALSA 1.6, EdSurvey 4.1 and ILSAstats 0.4 (R). Until 2011 one replicate per zone (75) and the sampling variance of
    the first plausible value; from 2015 two replicates per zone at half weight, averaged over plausible values; 125
    zones in 2023. EdSurvey uses the newer rule for every cycle.
Weighting
    "TIMSS method", total student weight / school weight without further scaling: Nguyen & Kelley (2018), Table 1.
    Factors: WGTFAC1 x WGTADJ1 is the school's weight, WGTFAC2 (x WGTADJ2) the class's and WGTFAC3 x WGTADJ3 the
    student's within the unit above (TIMSS data documentation, DataFirst; the 1995 and 1999 files have no WGTADJ2).
Left out
    The longitudinal TIMSS 2023 scores (two time points): declare them with ``pv=``.
"""

from __future__ import annotations

from typing import Any

from pmwmix.surveys._base import KORETZ, NAMES, SCHEMES, register, times

NO_ANSWER = (
    *("Omitted", "Omitted or invalid", "Omitted (blank only)", "Blank (omitted)", "Blank (missing)", "Blank (miss)"),
    *("Mis", "Miss", "Missing", "Missing (blank only)", "Multiple", "Invalid", "Invalid response"),
    *("Not reached", "n. rea", "n.rea", "n. reach", "n.reach", "n. reached", "Not administered", "Not admin", "n. adm"),
    *("n. admin", "Not applicable", "Not appl", "log.not appl", "Logically not applicable", "N/A", "NA"),
    *("Two or more responses, uninterpretable", "Two or more responses, not interpretable", "Uninterpretable"),
    "Crossed out, not interpretable",
)
SCHOOL = "SCHWGT|WGTFAC1*WGTADJ1"
WEIGHTS = {"obs": "TOTWGT", "class": times(SCHOOL, "WGTFAC2*WGTADJ2|WGTFAC2"), "school": SCHOOL}
IDS = {"country": "IDCNTRY", "school": "IDSCHOOL", "class": "IDCLASS", "student": "IDSTUD"}
ADVICE = (
    "Total student weight / school weight at level one (TIMSS method), nothing scaled; "
    "with a class level, the class and student factors."
)
OLD: dict[str, Any] = {"replicate_type": "jk2", "sampling_variance": "first"}
NEW: dict[str, Any] = {"replicate_type": "jk2-two-sided"}
OLD_RULE = "75 zones, one replicate each; sampling variance from the first plausible value."
FACTORS = "Without WGTFAC2 the class keeps conditional weight 1 and the student's carries both factors."


def rule(cycle: int, two_sided_from: int, more_zones_from: int) -> tuple[dict[str, Any], str]:
    """Find the jackknife of a cycle, as fields of a design and in words."""
    if cycle < two_sided_from:
        return OLD, OLD_RULE
    zones = 125 if cycle >= more_zones_from else 75
    return NEW, f"{zones} zones, two replicates each, at half weight."


def cycle(name: str, title: str, year: int, pv: dict[str, str], outcome: str, *rules: int, **more: Any) -> None:
    """Enter one cycle of a study with the sample design of TIMSS."""
    jackknife, words = rule(year, *rules)
    register(
        name=f"{name}-{year}",
        title=f"{title} {year}",
        outcome=outcome,
        weights=WEIGHTS,
        scaling="none",
        advice=ADVICE,
        strata="JKZONE",
        psu="school",
        lonely_psu="centre",
        zone="JKZONE",
        rep="JKREP",
        pv=pv,
        ids=IDS,
        no_answer=NO_ANSWER,
        sources=(SCHEMES, KORETZ, f"{title} user guides for the international database.", NAMES),
        remarks=(words, FACTORS, *more.pop("remarks", ())),
        **jackknife,
        **more,
    )


for _year in (1995, 1999, 2003, 2007, 2011, 2015, 2019, 2023):
    cycle(
        "timss", "TIMSS", _year, {"math": "ASMMAT{}|BSMMAT{}", "scie": "ASSSCI{}|BSSSCI{}"}, "math|scie", 2015, 2023,
        remarks=("Scores begin with A in grade 4 and with B in grade 8.",),
    )  # fmt: skip
