"""``pmwmix demo``: a simulated survey with a known truth."""

from __future__ import annotations

import argparse
from typing import Any

from pmwmix.cli.output import check_targets, write_text


def run_demo(chosen: argparse.Namespace) -> None:
    """Simulate, fit, and print estimates beside the truth."""
    from rich.console import Console
    from rich.table import Table

    from pmwmix.api import fit
    from pmwmix.simulate import simulate_survey

    check_targets(chosen.html)
    survey = simulate_survey(chosen.schools, chosen.students, random_seed=chosen.seed)
    print(
        f"Simulated survey: {chosen.schools} schools drawn from a population, weak schools more often; inside\n"
        f"them weak students more often; {len(survey.data)} students, 10 plausible values, known truth.\n"
    )
    weighted = fit(survey.formula, survey.data, weights=survey.weights, scaling="size", pv=survey.pv)
    plain = fit(survey.formula, survey.data, pv=survey.pv, progress=False)
    print(weighted.summary())
    print()
    table = Table(title="Estimates beside the truth", box=None, pad_edge=False, padding=(0, 2), title_justify="left")
    table.add_column("")
    for heading in ("Truth", "Weighted", "Std. error", "Unweighted"):
        table.add_column(heading, justify="right")
    errors = {**_estimates(weighted, "se")}
    ours, naive = _estimates(weighted), _estimates(plain)
    for name, truth in survey.truth.items():
        row = (truth, ours[str(name)], errors[str(name)], naive[str(name)])
        table.add_row(str(name), *(f"{value:.2f}" for value in row))
    Console(width=100).print(table)
    if chosen.html is not None:
        write_text(chosen.html, weighted.summary().to_html("pmwmix demo"))


def _estimates(result: Any, what: str = "estimate") -> dict[str, float]:
    """Name coefficients and variance components as `simulate.SimulatedSurvey.truth` does."""
    out = dict(result.coef if what == "estimate" else result.se)
    for _, row in result.varcorr.iterrows():
        value = float(row["vcov"] if what == "estimate" else row["se"])
        if row["var1"] is None:
            out["var(Residual)"] = value
        elif row["var2"] is None:
            out[f"var({row['grp']} {row['var1']})"] = value
        else:
            out[f"cov({row['grp']} {row['var1']}, {row['var2']})"] = value
    return out
