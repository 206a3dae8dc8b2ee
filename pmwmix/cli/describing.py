"""``pmwmix describe``: statistics of variables and plausible values."""

from __future__ import annotations

import argparse
from typing import Any

from pmwmix.cli.output import check_targets, pairs, write_text
from pmwmix.cli.reading import design_of, read_data


def describe_variables(chosen: argparse.Namespace) -> None:
    """Describe every variable that was named, below each other."""
    import pandas as pd

    from pmwmix.descriptives.describe import describe
    from pmwmix.results.rendering import screen_width, text_table

    check_targets(chosen.output)
    asked = [*chosen.variables, *([chosen.correlate] if chosen.correlate else [])]
    data = read_data(chosen, [*asked, chosen.by, chosen.weights], asked)
    tables = {
        name: describe(
            name,
            data,
            by=chosen.by,
            statistics=chosen.statistics,
            percentiles=chosen.percentiles,
            benchmarks=chosen.benchmarks,
            correlate=chosen.correlate,
            gaps=chosen.gaps,
            weights=chosen.weights,
            pv=pairs(chosen.pv, "pv"),
            design=design_of(chosen),
            vcov=chosen.vcov,
            ci_prob=chosen.ci_prob,
        )
        for name in dict.fromkeys(chosen.variables)
    }
    for name, table in tables.items():
        print(f"{name}\n{text_table(_shown(table, chosen.by, chosen.ci_prob), screen_width())}\n")
    if chosen.output is not None:
        every = pd.concat(tables, names=["variable"]).reset_index("variable")
        write_text(chosen.output, every.to_csv(index=False))


def _shown(table: Any, by: str | None, ci_prob: float) -> Any:
    """Turn numbers into text: every row with three digits of its standard error."""
    from pmwmix.results.summary import columns_of, ends, fixed, p_value

    heads = list(table["statistic"])
    if by is not None:
        heads = [f"{group}: {name}" for group, name in zip(table[by], heads, strict=True)]
    out = table[["n"]].astype(str).set_axis(heads, axis=0)
    shown = {"estimate": "Estimate", "std_error": "Std. error"}
    out = out.assign(**columns_of(table, "std_error", shown), df=[fixed(x, 1) for x in table["df"]])
    out = out.assign(**columns_of(table, "std_error", ends(ci_prob)))
    if "p_value" in table:
        out["p"] = [p_value(x) for x in table["p_value"]]
    return out.rename_axis(by)
