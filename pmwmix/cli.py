"""The command line: ``pmwmix fit`` and ``pmwmix demo``."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  pmwmix fit pisa.csv.gz --formula "math ~ escs + (1 + escs | school)" \\
      --pv math=PV{}MATH --weights W_FSTUWT W_FSCHWT --scaling size
  pmwmix fit hsb.csv --formula "mathach ~ cses + (cses | school)" --method reml --html report.html
  pmwmix fit timss.parquet --formula "math ~ 1 + (1 | idschool/idclass)" --pv math=ASMMAT{} \\
      --weights TOTWGT - SCHWGT --output result.json
  pmwmix demo
"""


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    top = argparse.ArgumentParser(
        prog="pmwmix",
        description="Survey-weighted multilevel models with plausible values.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version and stop")
    verbs = top.add_subparsers(dest="verb", metavar="{fit,demo}")
    fit = verbs.add_parser(
        "fit", help="fit a model to a file", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    fit.add_argument("data", metavar="DATA", help="a .csv, .csv.gz or .parquet file")
    fit.add_argument("--formula", required=True, help='lme4 syntax: "math ~ escs + (1 | school)"')
    fit.add_argument("--weights", nargs="+", metavar="COLUMN", help="bottom-up; '-' leaves a level out")
    fit.add_argument("--conditional", action="store_true", help="weights are conditional on the unit above")
    fit.add_argument("--scaling", help="none, size (A), effective (B) or gk")
    fit.add_argument("--pv", nargs="+", metavar="NAME=TEMPLATE", help="plausible values: math=PV{}MATH")
    fit.add_argument("--method", default="ml", help="ml (default) or reml")
    fit.add_argument("--vcov", help="model, robust, robust-block, CR0 to CR3, replicate")
    fit.add_argument("--strata", metavar="COLUMN", help="strata of the primary sampling units")
    fit.add_argument("--psu", metavar="COLUMN", help="primary sampling units, if not the top level")
    fit.add_argument("--replicates", metavar="TEMPLATE", help="replicate weights, such as W_FSTR{}")
    fit.add_argument("--replicate-type", metavar="TYPE", help="fay, brr, jk1, jk2, jk2-two-sided, jkn or bootstrap")
    fit.add_argument("--fay", type=float, metavar="FACTOR", help="Fay's factor, 0.5 in PISA")
    fit.add_argument("--subset", metavar="COLUMN", help="rows to fit: a column of true and false; clusters stay")
    fit.add_argument("--center", nargs="+", metavar="COLUMN=GROUP", help="escs=school, escs=school+mean or escs=grand")
    fit.add_argument("--ci-prob", type=float, default=0.95, metavar="PROB", help="probability of the intervals (0.95)")
    fit.add_argument("--engine", help="jax (default), numba, c or python")
    fit.add_argument("--output", type=Path, metavar="FILE.json", help="write all numbers as JSON")
    fit.add_argument("--html", type=Path, metavar="FILE.html", help="write the summary as an HTML page")
    fit.add_argument("--save", type=Path, metavar="FILE", help="write the fit, to be read by pmwmix.load")
    fit.add_argument("--no-progress", action="store_true", help="no progress bar")
    demo = verbs.add_parser("demo", help="simulate a PISA-like survey, fit it, print estimates beside the truth")
    demo.add_argument("--schools", type=int, default=150, help="sampled schools (150)")
    demo.add_argument("--students", type=int, default=25, help="sampled students per school (25)")
    demo.add_argument("--seed", type=int, default=2012, help="of the random numbers (2012)")
    demo.add_argument("--html", type=Path, metavar="FILE.html", help="write the summary as an HTML page")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, or 2 after an error that the user can mend."""
    from pmwmix.errors import PmwmixError, PmwmixWarning

    chosen = parser().parse_args(arguments)
    if chosen.version:
        from importlib.metadata import version

        print(version("pmwmix"))
        return 0
    if chosen.verb is None:
        parser().print_help()
        return 2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", PmwmixWarning)
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            _fit(chosen) if chosen.verb == "fit" else _demo(chosen)
    except PmwmixError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    return 0


def _show_warning(message: Warning | str, *rest: Any, **options: Any) -> None:
    print(f"Warning: {message}", file=sys.stderr)


def _pairs(given: Sequence[str] | None, option: str) -> dict[str, str] | None:
    from pmwmix.errors import OptionError

    if not given:
        return None
    out = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise OptionError(
                f"--{option} takes NAME=VALUE. Got {text!r}. Write for example --{option} {_SAMPLES[option]}."
            )
        out[name] = value
    return out


_SAMPLES = {"pv": "math=PV{}MATH", "center": "escs=school"}


def _fit(chosen: argparse.Namespace) -> None:
    from pmwmix.api import fit
    from pmwmix.design import Design
    from pmwmix.errors import OptionError

    for path in (chosen.output, chosen.html, chosen.save):
        if path is not None and not path.parent.exists():
            raise OptionError(f"The folder does not exist. Asked for {str(path)!r}. Create it first.")
    weights = None if chosen.weights is None else [None if name == "-" else name for name in chosen.weights]
    result = fit(
        chosen.formula,
        chosen.data,
        method=chosen.method,
        weights=weights,
        conditional=True if chosen.conditional else None,
        scaling=chosen.scaling,
        pv=_pairs(chosen.pv, "pv"),
        design=Design(
            strata=chosen.strata,
            psu=chosen.psu,
            replicate_weights=chosen.replicates,
            replicate_type=chosen.replicate_type,
            fay=chosen.fay,
        ),
        subset=chosen.subset,
        vcov=chosen.vcov,
        center=_pairs(chosen.center, "center"),
        progress=False if chosen.no_progress else None,
        engine=chosen.engine,
    )
    summary = result.summary(chosen.ci_prob)
    print(summary)
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(as_json(result, chosen.ci_prob), indent=1) + "\n", encoding="utf-8")
    if chosen.html is not None:
        chosen.html.write_text(summary.to_html(f"pmwmix: {chosen.formula}"), encoding="utf-8")
    if chosen.save is not None:
        result.save(chosen.save)


def as_json(result: Any, ci_prob: float = 0.95) -> dict[str, Any]:
    """Lay a fit out as plain JSON values: settings, tables, and the tables of every plausible value."""
    import dataclasses

    def records(table: Any) -> list[dict[str, Any]]:
        rows = table.astype(object).where(table.notna(), None).to_dict(orient="records")
        return [{name: _finite(value) for name, value in row.items()} for row in rows]

    def one(fit: Any) -> dict[str, Any]:
        return {"loglik": fit.loglik, "status": fit.status, "coef": fit.coef.to_dict(), "varcorr": records(fit.varcorr)}

    icc = result.icc if isinstance(result.icc, float) else {str(k): float(v) for k, v in result.icc.items()}
    return {
        "settings": dataclasses.asdict(result.settings),
        "fixed": records(result.tidy(ci_prob)),
        "varcorr": records(result.varcorr),
        "sigma": result.sigma,
        "icc": icc,
        "loglik": result.loglik,
        "nobs": result.nobs,
        "n_groups": {str(name): int(n) for name, n in result.n_groups.items()},
        "weight_stats": result.weight_stats.to_dict(orient="index"),
        "converged": result.converged,
        "singular": result.singular,
        "status": result.status,
        "notes": list(result.notes),
        "fits": [one(fit) for fit in result.fits] if result.n_pv > 1 else [],
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    import math

    return None if isinstance(value, float) and not math.isfinite(value) else value


def _demo(chosen: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from pmwmix.api import fit
    from pmwmix.simulate import simulate_survey

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
        chosen.html.write_text(weighted.summary().to_html("pmwmix demo"), encoding="utf-8")


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


if __name__ == "__main__":
    sys.exit(main())
