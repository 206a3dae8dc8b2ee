"""``pmwmix fit``, one model or several, and ``pmwmix table``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pmwmix.cli.output import check_targets, pairs, write_text
from pmwmix.cli.reading import design_of, read_data


def fit_models(chosen: argparse.Namespace) -> None:
    """Fit what was asked, print it, write the files."""
    from pmwmix.errors import OptionError
    from pmwmix.results.parts import asked_parts
    from pmwmix.spec.checks import check_prob

    check_targets(chosen.output, chosen.html, chosen.table, chosen.save)
    check_prob(chosen.ci_prob)
    _check_table(chosen)
    if chosen.by and chosen.save:
        raise OptionError("One fit goes into a file. Asked for --save with --by. Use --output for all groups.")
    options, formulas = _options(chosen), [_predictors(text) for text in chosen.formula]
    data = _data(chosen, formulas)
    if len(formulas) > 1:
        _several(chosen, formulas, data, options)
    elif chosen.by:
        _by_group(chosen, formulas[0], data, options)
    else:
        _one(chosen, formulas[0], data, options, asked_parts(chosen.show))  # a wrong name fails before the fit


def table_of_files(chosen: argparse.Namespace) -> None:
    """Print saved fits beside each other."""
    from pmwmix.sample.load import load

    check_targets(chosen.table)
    _check_table(chosen)
    made = _table(chosen, [load(path) for path in chosen.fits])
    print(made)
    if chosen.table is not None:
        made.save(chosen.table)


def _one(chosen: argparse.Namespace, formula: Any, data: Any, options: dict[str, Any], shown: Any) -> None:
    from pmwmix.api import fit
    from pmwmix.results.as_json import as_json

    result = fit(formula, data, **options)
    summary = result.summary(chosen.ci_prob, shown)
    print(summary)
    if chosen.output is not None:
        write_text(chosen.output, json.dumps(as_json(result, chosen.ci_prob), indent=1) + "\n")
    if chosen.html is not None:
        write_text(chosen.html, summary.to_html(f"pmwmix: {chosen.formula[0]}"))
    if chosen.table is not None:
        _table(chosen, result).save(chosen.table)
    if chosen.save is not None:
        result.save(chosen.save)


def _by_group(chosen: argparse.Namespace, formula: Any, data: Any, options: dict[str, Any]) -> None:
    from pmwmix.groups import fit_groups
    from pmwmix.results.as_json import groups_as_json

    groups = fit_groups(formula, data, by=chosen.by, **options)
    summary = groups.summary(chosen.ci_prob)
    print(summary)
    if chosen.output is not None:
        write_text(chosen.output, json.dumps(groups_as_json(groups, chosen.ci_prob), indent=1) + "\n")
    if chosen.html is not None:
        write_text(chosen.html, summary.to_html(f"pmwmix: {chosen.formula[0]}"))
    if chosen.table is not None:
        _table(chosen, groups).save(chosen.table)


def _several(chosen: argparse.Namespace, formulas: list[Any], data: Any, options: dict[str, Any]) -> None:
    """Fit several models, print their summaries and then the table of them."""
    from pmwmix.api import fit
    from pmwmix.errors import OptionError
    from pmwmix.results.as_json import as_json
    from pmwmix.results.parts import asked_parts

    for name, value in (("by", chosen.by), ("save", chosen.save), ("html", chosen.html)):
        if value is not None:
            raise OptionError(
                f"--{name} goes with one model. Got {len(formulas)} formulas. Call pmwmix fit once for each, or ask "
                f"for --table or --output, which hold all."
            )
    shown = asked_parts(chosen.show)
    results = [fit(formula, data, **options) for formula in formulas]
    made = _table(chosen, results)
    for result in results:
        print(result.summary(chosen.ci_prob, shown), end="\n\n\n")
    print(made)
    if chosen.output is not None:
        models = {"models": [as_json(result, chosen.ci_prob) for result in results]}
        write_text(chosen.output, json.dumps(models, indent=1) + "\n")
    if chosen.table is not None:
        made.save(chosen.table)


def _table(chosen: argparse.Namespace, fits: Any) -> Any:
    from pmwmix.tables.modeltable import table

    return table(fits, names=chosen.names, stars=chosen.stars, below=chosen.below, ci_prob=chosen.ci_prob)


def _check_table(chosen: argparse.Namespace) -> None:
    """Refuse words for the table before models are fitted."""
    from pmwmix.tables.modeltable import check_below

    check_below(chosen.below)
    if chosen.table is not None:
        from pmwmix.tables.export import check_ending

        check_ending(chosen.table)


def _predictors(text: str) -> Any:
    """Give a formula, or the list of them where semicolons stand between the linear predictors."""
    parts = [part.strip() for part in text.split(";") if part.strip()]
    return text if len(parts) < 2 else parts


def _options(chosen: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `fit` beside formula and data."""
    weights = None if chosen.weights is None else [None if name == "-" else name for name in chosen.weights]
    return {
        "method": chosen.method,
        "random_seed": chosen.seed,
        "family": chosen.family,
        "link": chosen.link,
        "weights": weights,
        "conditional": True if chosen.conditional else None,
        "scaling": chosen.scaling,
        "pv": pairs(chosen.pv, "pv"),
        "design": design_of(chosen),
        "subset": chosen.subset,
        "vcov": chosen.vcov,
        "center": pairs(chosen.center, "center"),
        "progress": False if chosen.no_progress else None,
        "engine": chosen.engine,
        "device": chosen.device,
    }


def _data(chosen: argparse.Namespace, formulas: list[Any]) -> Any:
    from pmwmix.spec.formula import parse

    said = [chosen.by, chosen.subset, *(chosen.weights or ()), *(chosen.center or ())]
    named: list[str] = []
    for one in formulas:
        said += one if isinstance(one, list) else [one]
        first = one[0] if isinstance(one, list) else one  # the others name parameters, which are no columns
        blank = first.strip().startswith("~")
        parsed = parse(f"{'y' if blank else ''}{first}")
        named += [*(() if blank else parsed.response_variables), *parsed.fixed_columns]
    centred = {name for name in named if chosen.center and name.endswith("_mean")}
    return read_data(chosen, said, [name for name in named if name not in centred])
