"""The command line: ``pmwmix fit``, ``surveys``, ``codebook``, ``convert`` and ``demo``."""

from __future__ import annotations

import argparse
import json
import shlex
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
  pmwmix fit CY07_MSU_STU_QQQ.sav --school CY07_MSU_SCH_QQQ.sav --survey pisa-2018 --countries NZL \
      --formula "math ~ ESCS + (1 | school)"
  pmwmix fit pisa.parquet --survey pisa-2018 --formula "math ~ ESCS + (1 | school)" --by CNT
  pmwmix surveys pisa-2018
  pmwmix codebook CY07_MSU_STU_QQQ.sav "mother"
  pmwmix convert timss-2019-folder timss.parquet --survey timss-2019 --prefix bsg
  pmwmix demo
"""
SHOWN = "correlation, intervals, residuals, lrt"


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    top = argparse.ArgumentParser(
        prog="pmwmix",
        description="Survey-weighted multilevel models with plausible values.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version and stop")
    verbs = top.add_subparsers(dest="verb", metavar="{fit,surveys,codebook,convert,demo}")
    _add_fit(verbs)
    _add_tables(verbs)
    _add_convert(verbs)
    return top


def _add_fit(verbs: Any) -> None:
    fit = verbs.add_parser(
        "fit", help="fit a model to a file", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    fit.add_argument(
        "data", metavar="DATA", help="a .csv(.gz), .parquet, .sav, .dta, .sas7bdat or .xpt file, or a folder"
    )
    _add_reading(fit)
    fit.add_argument("--by", metavar="COLUMN", help="one model per group, such as --by CNT")
    fit.add_argument("--formula", required=True, help='lme4 syntax: "math ~ escs + (1 | school)"')
    fit.add_argument("--weights", nargs="+", metavar="COLUMN", help="bottom-up; '-' leaves a level out")
    fit.add_argument("--conditional", action="store_true", help="weights are conditional on the unit above")
    fit.add_argument("--scaling", help="none, size (A), effective (B), gk or gk-sum")
    fit.add_argument("--pv", nargs="+", metavar="NAME=TEMPLATE", help="plausible values: math=PV{}MATH")
    fit.add_argument("--family", default="gaussian", help="gaussian (default), binomial, poisson, ...")
    fit.add_argument("--link", help="name of the link, if not the family's own")
    fit.add_argument("--method", default="ml", help="ml (default), reml, pairwise or bayes")
    fit.add_argument("--seed", type=int, help="of the random numbers of --method bayes")
    fit.add_argument(
        "--vcov", help="model, robust, robust-block, CR0 to CR3, replicate, or stata, hlm, mplus, wemix, gllamm"
    )
    fit.add_argument("--strata", metavar="COLUMN", help="strata of the primary sampling units")
    fit.add_argument("--psu", metavar="COLUMN", help="primary sampling units, if not the top level")
    fit.add_argument("--replicates", metavar="TEMPLATE", help="replicate weights, such as W_FSTR{}")
    fit.add_argument("--replicate-type", metavar="TYPE", help="fay, brr, jk1, jk2, jk2-two-sided, jkn or bootstrap")
    fit.add_argument("--fay", type=float, metavar="FACTOR", help="Fay's factor, 0.5 in PISA")
    fit.add_argument("--subset", metavar="COLUMN", help="rows to fit: a column of true and false; clusters stay")
    fit.add_argument("--center", nargs="+", metavar="COLUMN=GROUP", help="escs=school, escs=school+mean or escs=grand")
    fit.add_argument("--ci-prob", type=float, default=0.95, metavar="PROB", help="probability of the intervals (0.95)")
    fit.add_argument("--show", nargs="+", metavar="PART", default=(), help=f"add to the summary: {SHOWN} or all")
    fit.add_argument("--engine", help="jax (default), numba, c or python")
    fit.add_argument("--output", type=Path, metavar="FILE.json", help="write all numbers as JSON")
    fit.add_argument("--html", type=Path, metavar="FILE.html", help="write the summary as an HTML page")
    fit.add_argument("--table", type=Path, metavar="FILE", help="write a table: .docx .xlsx .tex .html .csv")
    fit.add_argument("--save", type=Path, metavar="FILE", help="write the fit, to be read by pmwmix.load")
    fit.add_argument("--no-progress", action="store_true", help="no progress bar")


def _add_tables(verbs: Any) -> None:
    surveys = verbs.add_parser("surveys", help="list the survey presets, or show one")
    surveys.add_argument("name", nargs="?", metavar="NAME", help="preset to show, such as pisa-2018")
    book = verbs.add_parser("codebook", help="search names and labels of the columns of a file")
    book.add_argument("data", metavar="FILE", help="a survey file, or a folder of files per country")
    book.add_argument("search", nargs="?", metavar="SEARCH", help="text or regular expression in names or labels")
    book.add_argument("--no-counts", action="store_true", help="do not read the data to count missing cells")
    book.add_argument("--prefix", metavar="PREFIX", help="file type in a folder, such as bsg")
    book.add_argument("--output", type=Path, metavar="FILE.csv", help="write the codebook instead of printing it")
    book.add_argument("--no-progress", action="store_true", help="no progress bar")
    demo = verbs.add_parser("demo", help="simulate a PISA-like survey, fit it, print estimates beside the truth")
    demo.add_argument("--schools", type=int, default=150, help="sampled schools (150)")
    demo.add_argument("--students", type=int, default=25, help="sampled students per school (25)")
    demo.add_argument("--seed", type=int, default=2012, help="of the random numbers (2012)")
    demo.add_argument("--html", type=Path, metavar="FILE.html", help="write the summary as an HTML page")


def _add_convert(verbs: Any) -> None:
    convert = verbs.add_parser("convert", help="write survey files as one parquet file, which reads fast")
    convert.add_argument("data", nargs="+", metavar="IN", help="files to be stacked, or a folder of files per country")
    convert.add_argument("target", metavar="OUT.parquet", help="file to write")
    _add_reading(convert)
    convert.add_argument("--columns", nargs="+", metavar="COLUMN", help="columns or templates; default everything")
    convert.add_argument("--labels", action="store_true", help="turn value labels into categories")
    convert.add_argument("--keep-codes", action="store_true", help="do not set codes for missing to missing")
    convert.add_argument("--no-progress", action="store_true", help="no progress bar")


def _add_reading(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--survey", metavar="NAME", help="survey preset, such as pisa-2018; see pmwmix surveys")
    verb.add_argument("--school", metavar="FILE", help="school file to merge; in a folder its prefix")
    verb.add_argument("--teacher", metavar="FILE", help="teacher file to merge; in a folder its prefix")
    verb.add_argument("--home", metavar="FILE", help="home questionnaire to merge; in a folder its prefix")
    verb.add_argument("--countries", nargs="+", metavar="CODE", help="read these countries only")
    verb.add_argument("--prefix", metavar="PREFIX", help="file type whose rows are read in a folder, such as bsg")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, or 2 after an error that the user can mend."""
    from pmwmix.errors import PmwmixError, PmwmixWarning
    from pmwmix.spec.call import COMMAND

    chosen = parser().parse_args(arguments)
    if chosen.version:
        from importlib.metadata import version

        print(version("pmwmix"))
        return 0
    if chosen.verb is None:
        parser().print_help()
        return 2
    said = COMMAND.set(shlex.join(["pmwmix", *(sys.argv[1:] if arguments is None else arguments)]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", PmwmixWarning)
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            VERBS[chosen.verb](chosen)
    except PmwmixError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt as error:
        print("Interrupted.", file=sys.stderr)
        sys.last_exc = error  # so that the end does not wait for a compiler
        return 130
    finally:
        COMMAND.reset(said)
    return 0


def _write(path: Any, text: str) -> None:
    """Write a file of results, whole or not at all."""
    from pmwmix.writing import replacing, target_of

    with replacing(target_of(path, "A file of results")) as new:
        new.write_text(text, encoding="utf-8")


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
    from pmwmix.errors import OptionError
    from pmwmix.groups import fit_groups
    from pmwmix.results.as_json import as_json, groups_as_json
    from pmwmix.results.parts import asked_parts
    from pmwmix.tables.modeltable import table

    for path in (chosen.output, chosen.html, chosen.table, chosen.save):
        if path is not None and not path.parent.exists():
            raise OptionError(f"The folder does not exist. Asked for {str(path)!r}. Create it first.")
    if chosen.by and chosen.save:
        raise OptionError("One fit goes into a file. Asked for --save with --by. Use --output for all groups.")
    options = _options(chosen)
    data = _data(chosen)
    if chosen.by:
        groups = fit_groups(chosen.formula, data, by=chosen.by, **options)
        summary, numbers = groups.summary(chosen.ci_prob), lambda: groups_as_json(groups, chosen.ci_prob)
    else:
        shown = asked_parts(chosen.show)  # a wrong name fails before the fit
        result = fit(chosen.formula, data, **options)
        summary, numbers = result.summary(chosen.ci_prob, shown), lambda: as_json(result, chosen.ci_prob)
    print(summary)
    if chosen.output is not None:
        _write(chosen.output, json.dumps(numbers(), indent=1) + "\n")
    if chosen.html is not None:
        _write(chosen.html, summary.to_html(f"pmwmix: {chosen.formula}"))
    if chosen.table is not None:
        table(groups if chosen.by else result, ci_prob=chosen.ci_prob).save(chosen.table)
    if chosen.save is not None:
        result.save(chosen.save)


def _options(chosen: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `fit` beside formula and data."""
    from pmwmix.spec.design import Design
    from pmwmix.surveys import SURVEYS

    weights = None if chosen.weights is None else [None if name == "-" else name for name in chosen.weights]
    said = {
        "strata": chosen.strata,
        "psu": chosen.psu,
        "replicate_weights": chosen.replicates,
        "replicate_type": chosen.replicate_type,
        "fay": chosen.fay,
    }
    design: Any = Design(**said)
    if chosen.survey:
        changed = any(value is not None for value in said.values())
        design = SURVEYS[chosen.survey].override(**said) if changed else chosen.survey
    return {
        "method": chosen.method,
        "random_seed": chosen.seed,
        "family": chosen.family,
        "link": chosen.link,
        "weights": weights,
        "conditional": True if chosen.conditional else None,
        "scaling": chosen.scaling,
        "pv": _pairs(chosen.pv, "pv"),
        "design": design,
        "subset": chosen.subset,
        "vcov": chosen.vcov,
        "center": _pairs(chosen.center, "center"),
        "progress": False if chosen.no_progress else None,
        "engine": chosen.engine,
    }


def _data(chosen: argparse.Namespace) -> Any:
    """Path of a single file, or the table that was read, merged and filtered, with its report on stderr."""
    from pmwmix.readers.report import report_of
    from pmwmix.readers.survey import read_named
    from pmwmix.spec.formula import parse

    files = {"school": chosen.school, "teacher": chosen.teacher, "home": chosen.home}
    if not (any(files.values()) or chosen.countries or chosen.survey or Path(chosen.data).is_dir()):
        return chosen.data
    said = [chosen.formula, chosen.by, chosen.subset, chosen.strata, chosen.psu, chosen.replicates]
    said += [*(chosen.weights or ()), *(chosen.pv or ()), *(chosen.center or ())]
    blank = chosen.formula.strip().startswith("~")
    parsed = parse(f"{'y' if blank else ''}{chosen.formula}")
    named = [*(() if blank else parsed.response_variables), *parsed.fixed_variables]
    made = set(_pairs(chosen.pv, "pv") or ()) | {name for name in named if chosen.center and name.endswith("_mean")}
    data = read_named(
        chosen.data,
        [text for text in said if text],
        [name for name in named if name not in made],
        **files,
        survey=chosen.survey,
        countries=chosen.countries,
        prefix=chosen.prefix,
        progress=False if chosen.no_progress else None,
    )
    print(report_of(data), file=sys.stderr)
    return data


def _surveys(chosen: argparse.Namespace) -> None:
    from pmwmix.surveys import SURVEYS, table

    every = table()
    if chosen.name:
        for name, value in every.loc[SURVEYS[chosen.name].name].items():
            if value:
                print(f"{name.replace('_', ' ')}: {value}")
        return
    _print(every[["study", "level_1", "school", "scaling"]].reset_index())
    print("Show one with: pmwmix surveys NAME")


def _codebook(chosen: argparse.Namespace) -> None:
    from pmwmix.data.codebook import codebook
    from pmwmix.errors import OptionError

    if chosen.output is not None and not chosen.output.parent.exists():
        raise OptionError(f"The folder does not exist. Asked for {str(chosen.output)!r}. Create it first.")
    progress = False if chosen.no_progress else None
    book = codebook(chosen.data, chosen.search, counts=not chosen.no_counts, prefix=chosen.prefix, progress=progress)
    if chosen.output is not None:
        _write(chosen.output, book.to_csv(index=False))
    elif len(book):
        _print(book if not chosen.no_counts else book.drop(columns="missing"))
    print(f"{len(book)} columns" + (f" with {chosen.search!r} in name or label" if chosen.search else ""))


def _convert(chosen: argparse.Namespace) -> None:
    from pmwmix.readers import convert

    report = convert(
        chosen.data[0] if len(chosen.data) == 1 else chosen.data,
        chosen.target,
        school=chosen.school,
        teacher=chosen.teacher,
        home=chosen.home,
        survey=chosen.survey,
        countries=chosen.countries,
        columns=chosen.columns,
        labels=chosen.labels,
        missing=not chosen.keep_codes,
        prefix=chosen.prefix,
        progress=False if chosen.no_progress else None,
    )
    print(report)
    print(f"Written to {chosen.target}")


def _print(table: Any) -> None:
    """Print a table of texts; long cells wrap."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in table.columns:
        out.add_column(name, overflow="fold")
    for row in table.itertuples(index=False):
        out.add_row(*(Text(str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 140).print(out)


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
        _write(chosen.html, weighted.summary().to_html("pmwmix demo"))


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


VERBS = {"fit": _fit, "surveys": _surveys, "codebook": _codebook, "convert": _convert, "demo": _demo}
if __name__ == "__main__":
    sys.exit(main())
