"""TALIS (OECD): teachers in schools.

Names and variance method
    RALSA 1.6, EdSurvey 4.1 and Rrepest 1.6 (R), repest (Stata): TCHWGT with TRWGT1-100, Fay's BRR with 0.5.
Weighting
    Final teacher weight / final school weight, then Method A: Carstens (2009), in Nguyen & Kelley (2018), Table 1.
Left out
    TALIS 2024, the Starting Strong survey (another jackknife) and principals as rows: not checked.
"""

from __future__ import annotations

from pmwmix.surveys._base import NAMES, SCHEMES, register

for _year in (2008, 2013, 2018):
    register(
        name=f"talis-{_year}",
        title=f"TALIS {_year}",
        rows="teacher",
        weights={"obs": "TCHWGT", "school": "SCHWGT"},
        scaling="size",
        lowest_only=True,
        advice="Final teacher weight / final school weight at level one, then Method A; nothing scaled above.",
        psu="school",
        replicate_weights="TRWGT{}",
        replicate_type="fay",
        fay=0.5,
        ids={"country": "IDCNTRY", "school": "IDSCHOOL", "teacher": "IDTEACH"},
        no_answer=("Omitted", "Omitted or invalid"),
        sources=(SCHEMES, "Carstens (2009). TALIS user guide for the international database. OECD.", NAMES),
        remarks=(
            "100 replicates.",
            "IDPOP separates the ISCED levels: fit one at a time.",
            "TCHWGT is also adjusted for teachers who work in several schools.",
        ),
    )
