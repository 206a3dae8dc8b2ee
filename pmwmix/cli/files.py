"""``pmwmix surveys``, ``codebook`` and ``convert``: presets and files."""

from __future__ import annotations

import argparse

from pmwmix.cli.output import check_targets, print_table, write_text


def show_surveys(chosen: argparse.Namespace) -> None:
    """List the presets, or show one."""
    from pmwmix.surveys import SURVEYS, table

    every = table()
    if chosen.name:
        for name, value in every.loc[SURVEYS[chosen.name].name].items():
            if value:
                print(f"{name.replace('_', ' ')}: {value}")
        return
    print_table(every[["study", "level_1", "school", "scaling"]].reset_index())
    print("Show one with: pmwmix surveys NAME")


def search_codebook(chosen: argparse.Namespace) -> None:
    """Print or write names and labels of columns."""
    from pmwmix.data.codebook import codebook

    check_targets(chosen.output)
    progress = False if chosen.no_progress else None
    book = codebook(chosen.data, chosen.search, counts=not chosen.no_counts, prefix=chosen.prefix, progress=progress)
    if chosen.output is not None:
        write_text(chosen.output, book.to_csv(index=False))
    elif len(book):
        print_table(book if not chosen.no_counts else book.drop(columns="missing"))
    print(f"{len(book)} columns" + (f" with {chosen.search!r} in name or label" if chosen.search else ""))


def convert_files(chosen: argparse.Namespace) -> None:
    """Write survey files as parquet, in one file or in folders."""
    from pmwmix.readers.conversion import convert

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
        by=chosen.by,
        cycle=chosen.cycle,
        progress=False if chosen.no_progress else None,
    )
    print(report)
    print(f"Written to {chosen.target}")
