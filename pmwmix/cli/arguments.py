"""What can be typed: the parser with its verbs, options and examples."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

EXAMPLES = {  # each on lines of its own that fit into 80 columns
    "fit": r"""
  pmwmix fit pisa.csv.gz --formula "math ~ escs + (1 + escs | school)" \
      --pv math=PV{}MATH --weights W_FSTUWT W_FSCHWT --scaling size

  pmwmix fit hsb.csv --formula "mathach ~ cses + (cses | school)" \
      --method reml --html report.html

  pmwmix fit hsb.csv --formula "mathach ~ 1 + (1 | school)" \
      --formula "mathach ~ cses + (1 | school)" --table models.docx

  pmwmix fit timss.parquet --formula "math ~ 1 + (1 | idschool/idclass)" \
      --pv math=ASMMAT{} --weights TOTWGT - SCHWGT --output result.json

  pmwmix fit CY07_MSU_STU_QQQ.sav --school CY07_MSU_SCH_QQQ.sav \
      --survey pisa-2018 --countries NZL --formula "math ~ ESCS + (1 | school)"

  pmwmix fit pisa.parquet --survey pisa-2018 --by CNT \
      --formula "math ~ ESCS + (1 | school)"
""",
    "describe": r"""
  pmwmix describe CY07_MSU_STU_QQQ.sav math read --survey pisa-2018 --by CNT

  pmwmix describe pisa.parquet math --survey pisa-2018 \
      --percentiles 0.1 0.5 0.9 --benchmarks 420 607 --output math.csv

  pmwmix describe survey.csv math --pv math=PV{}MATH --weights W_FSTUWT \
      --psu SCHOOLID --by female --gaps
""",
    "table": r"""
  pmwmix table null.pmwmix full.pmwmix --names Null Full --stars \
      --table models.docx
""",
    "surveys": r"""
  pmwmix surveys
  pmwmix surveys pisa-2018
""",
    "codebook": r"""
  pmwmix codebook CY07_MSU_STU_QQQ.sav "mother"
""",
    "convert": r"""
  pmwmix convert timss-2019-folder timss.parquet --survey timss-2019 \
      --prefix bsg
  pmwmix convert timss-2019-folder timss --survey timss-2019 --by country \
      --cycle 2019
""",
    "demo": r"""
  pmwmix demo
""",
    "completion": r"""
  bash:  echo 'source <(pmwmix completion bash)' >> ~/.bashrc
  zsh:   echo 'source <(pmwmix completion zsh)' >> ~/.zshrc
  fish:  pmwmix completion fish > ~/.config/fish/completions/pmwmix.fish
""",
}
FIRST = ("fit", "describe", "surveys", "codebook", "convert", "demo")  # verbs whose examples stand in the first help
SHOWN = "correlation, intervals, residuals, lrt"
HELP = {
    "fit": "fit one or several models to a file",
    "describe": "weighted means, percentiles and shares, by group",
    "table": "saved fits beside each other",
    "surveys": "list the survey presets, or show one",
    "codebook": "search names and labels of the columns of a file",
    "convert": "write survey files as parquet, in one file or in folders, which reads fast",
    "demo": "simulate a PISA-like survey, fit it, print estimates beside the truth",
    "completion": "print what makes a shell complete verbs, options and presets",
}


def examples(*verbs: str) -> str:
    """Give the examples of some verbs, one below the other."""
    return "examples:\n" + "\n\n".join(EXAMPLES[verb].strip("\n") for verb in verbs)


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    top = argparse.ArgumentParser(
        prog="pmwmix",
        description="Survey-weighted multilevel models with plausible values.",
        epilog=examples(*FIRST),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version and stop")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    adds = (_add_fit, _add_describe, _add_table, _add_surveys, _add_codebook, _add_convert, _add_demo, _add_completion)
    for (name, words), add in zip(HELP.items(), adds, strict=True):
        add(
            verbs.add_parser(
                name,
                help=words,
                description=f"{words[0].upper()}{words[1:]}.",
                epilog=examples(name),
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    return top


def _add_fit(fit: argparse.ArgumentParser) -> None:
    _add_data(fit)
    _add_reading(fit)
    fit.add_argument("--by", metavar="COLUMN", help="one model per group, such as --by CNT")
    fit.add_argument(
        "--formula",
        required=True,
        action="append",
        help='lme4 syntax: "math ~ escs + (1 | school)"; once for each of several models',
    )
    fit.add_argument("--weights", nargs="+", metavar="COLUMN", help="bottom-up; '-' leaves a level out")
    fit.add_argument("--conditional", action="store_true", help="weights are conditional on the unit above")
    fit.add_argument("--scaling", help="none, size (A), size-lowest, effective (B), gk or gk-sum")
    fit.add_argument("--family", default="gaussian", help="gaussian (default), binomial, poisson, ...")
    fit.add_argument("--link", help="name of the link, if not the family's own")
    fit.add_argument("--method", default="ml", help="ml (default), reml, pairwise or bayes")
    fit.add_argument("--seed", type=int, help="of the random numbers of --method bayes")
    fit.add_argument(
        "--vcov",
        help="model, robust, robust-block, multiway, CR0 to CR3, replicate, replicate-one-step, or stata, hlm, mplus, "
        "wemix, gllamm",
    )
    _add_design(fit)
    fit.add_argument("--subset", metavar="COLUMN", help="rows to fit: a column of true and false; clusters stay")
    fit.add_argument("--center", nargs="+", metavar="COLUMN=GROUP", help="escs=school, escs=school+mean or escs=grand")
    _add_ci_prob(fit)
    fit.add_argument("--show", nargs="+", metavar="PART", default=(), help=f"add to the summary: {SHOWN} or all")
    fit.add_argument("--engine", help="auto (default), numpy, jax, numba, c or python")
    fit.add_argument("--device", help="cpu or gpu, where JAX evaluates (default: where it does by itself)")
    fit.add_argument("--output", type=Path, metavar="FILE.json", help="write all numbers as JSON")
    fit.add_argument("--html", type=Path, metavar="FILE.html", help="write the summary as an HTML page")
    _add_table_file(fit)
    fit.add_argument("--save", type=Path, metavar="FILE", help="write the fit, to be read by pmwmix.load")
    _add_progress(fit)


def _add_describe(verb: argparse.ArgumentParser) -> None:
    _add_data(verb)
    verb.add_argument("variables", nargs="+", metavar="VARIABLE", help="columns, sets of --pv, or subjects of --survey")
    _add_reading(verb)
    verb.add_argument("--by", metavar="COLUMN", help="every statistic for each value of a column")
    verb.add_argument("--statistics", nargs="+", metavar="NAME", default=["mean", "sd"], help="mean sd (both)")
    verb.add_argument("--percentiles", nargs="+", type=float, metavar="P", default=(), help="such as 0.1 0.5 0.9")
    verb.add_argument(
        "--benchmarks", nargs="+", type=float, metavar="VALUE", default=(), help="shares of values at or above them"
    )
    verb.add_argument("--correlate", metavar="VARIABLE", help="correlation with this variable")
    verb.add_argument("--gaps", action="store_true", help="differences between all groups, with tests")
    verb.add_argument("--weights", metavar="COLUMN", help="weights of the rows, if no --survey says")
    verb.add_argument("--vcov", help="replicate or robust")
    _add_design(verb)
    _add_ci_prob(verb)
    verb.add_argument("--output", type=Path, metavar="FILE.csv", help="write all numbers, unrounded")
    _add_progress(verb)


def _add_table(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("fits", nargs="+", type=Path, metavar="FIT", help="files that pmwmix fit --save wrote")
    _add_ci_prob(verb)
    _add_table_file(verb)


def _add_surveys(surveys: argparse.ArgumentParser) -> None:
    surveys.add_argument("name", nargs="?", metavar="NAME", help="preset to show, such as pisa-2018")


def _add_codebook(book: argparse.ArgumentParser) -> None:
    book.add_argument("data", metavar="FILE", help="a survey file, or a folder of files per country")
    book.add_argument("search", nargs="?", metavar="SEARCH", help="text or regular expression in names or labels")
    book.add_argument("--no-counts", action="store_true", help="do not read the data to count missing cells")
    book.add_argument("--prefix", metavar="PREFIX", help="file type in a folder, such as bsg")
    book.add_argument("--output", type=Path, metavar="FILE.csv", help="write the codebook instead of printing it")
    _add_progress(book)


def _add_convert(convert: argparse.ArgumentParser) -> None:
    convert.add_argument("data", nargs="+", metavar="IN", help="files to be stacked, or a folder of files per country")
    convert.add_argument("target", metavar="OUT.parquet", help="file to write; a folder with --by or --cycle")
    _add_reading(convert)
    convert.add_argument("--columns", nargs="+", metavar="COLUMN", help="columns or templates; default everything")
    convert.add_argument("--by", metavar="COLUMN", help="write a folder per country, such as --by CNT")
    convert.add_argument("--cycle", help="write into the folder of this cycle, beside those of others")
    convert.add_argument("--labels", action="store_true", help="turn value labels into categories")
    convert.add_argument("--keep-codes", action="store_true", help="do not set codes for missing to missing")
    _add_progress(convert)


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--schools", type=int, default=150, help="sampled schools (150)")
    demo.add_argument("--students", type=int, default=25, help="sampled students per school (25)")
    demo.add_argument("--seed", type=int, default=2012, help="of the random numbers (2012)")
    demo.add_argument("--html", type=Path, metavar="FILE.html", help="write the summary as an HTML page")


def _add_completion(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("shell", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")


def _add_data(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "data",
        metavar="DATA",
        help="a .csv(.gz), .parquet, .sav, .dta, .sas7bdat, .xpt, .rds or fixed-width .txt file, or a folder",
    )


def _add_reading(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--survey", metavar="NAME", help="survey preset, such as pisa-2018; see pmwmix surveys")
    verb.add_argument("--school", metavar="FILE", help="school file to merge; in a folder its prefix")
    verb.add_argument("--teacher", metavar="FILE", help="teacher file to merge; in a folder its prefix")
    verb.add_argument("--home", metavar="FILE", help="home questionnaire to merge; in a folder its prefix")
    verb.add_argument("--countries", nargs="+", metavar="CODE", help="read these countries only")
    verb.add_argument("--prefix", metavar="PREFIX", help="file type whose rows are read in a folder, such as bsg")


def _add_design(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--pv", nargs="+", metavar="NAME=TEMPLATE", help="plausible values: math=PV{}MATH")
    verb.add_argument("--strata", metavar="COLUMN", help="strata of the primary sampling units")
    verb.add_argument("--psu", metavar="COLUMN", help="primary sampling units, if not the top level")
    verb.add_argument("--replicates", metavar="TEMPLATE", help="replicate weights, such as W_FSTR{}")
    verb.add_argument("--replicate-type", metavar="TYPE", help="fay, brr, jk1, jk2, jk2-two-sided, jkn or bootstrap")
    verb.add_argument("--fay", type=float, metavar="FACTOR", help="Fay's factor, 0.5 in PISA")


def _add_table_file(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--table", type=Path, metavar="FILE", help="write a table of the models: .docx .xlsx .tex .html .csv .txt"
    )
    verb.add_argument("--names", nargs="+", metavar="NAME", help="headings of the models in the table")
    verb.add_argument("--stars", action="store_true", help="stars by p-value in the table")
    verb.add_argument(
        "--below", default="std_error", metavar="WHAT", help="below coefficients: std_error, ci, statistic, p_value"
    )


def _add_ci_prob(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--ci-prob", type=float, default=0.95, metavar="PROB", help="probability of the intervals (0.95)")


def _add_progress(verb: Any) -> None:
    verb.add_argument("--no-progress", action="store_true", help="no progress bar")
