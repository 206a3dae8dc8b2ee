"""The presets as a table, for reading and for the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmwmix.spec.design import SURVEYS
from pmwmix.surveys._base import Preset

if TYPE_CHECKING:
    import pandas as pd

VARIANCES = {
    "fay": "BRR, Fay {fay}",
    "brr": "BRR",
    "jk1": "jackknife 1",
    "jk2": "jackknife 2 (one replicate per zone)",
    "jk2-two-sided": "jackknife 2 (two replicates per zone)",
}


def table() -> pd.DataFrame:
    """List the survey presets.

    Returns
    -------
    DataFrame
        A row per preset, indexed by its name: ``study``, what a row is, the weight columns of ``level_1``, ``class``
        and ``school``, ``scaling``, plausible-value sets, replicate ``variance``, strata, PSU and ids, the recommended
        ``weighting`` in words, ``remarks`` and ``sources``. In a cell, ``A | B`` stands for the first column that the
        table has, ``A*B`` for a product.

    Examples
    --------
    >>> import pmwmix
    >>> pmwmix.surveys.table().loc["pisa-2018", "school"]
    'W_SCHGRNRABWT'
    """
    import pandas as pd

    rows = {name: _row(SURVEYS[name]) for name in sorted(SURVEYS)}
    out = pd.DataFrame.from_dict(rows, orient="index")
    out.index.name = "preset"
    return out


def _row(preset: Preset) -> dict[str, str]:
    chosen = preset.weights if isinstance(preset.weights, dict) else {}
    weights = {kind: _shown(chosen.get(kind)) for kind in ("obs", "class", "school")}
    if preset.choices:
        weights["obs"] = "choose: " + ", ".join(preset.choices)
    return {
        "study": preset.title,
        "rows": preset.rows,
        "level_1": weights["obs"],
        "class": weights["class"],
        "school": weights["school"],
        "scaling": (preset.scaling or "choose") + (" (level 1 only)" if preset.lowest_only else ""),
        "plausible_values": ", ".join(f"{name}: {_shown(str(spec))}" for name, spec in (preset.pv or {}).items()),
        "variance": _variance(preset),
        "strata": _shown(preset.strata),
        "psu": _shown(preset.psu),
        "ids": ", ".join(f"{kind}: {_shown(column)}" for kind, column in (preset.ids or {}).items()),
        "weighting": preset.advice,
        "remarks": " ".join(preset.remarks),
        "sources": " ".join(preset.sources),
    }


def _shown(text: str | None) -> str:
    return "" if text is None else text.replace("|", " | ")


def _variance(preset: Preset) -> str:
    if preset.method_columns:
        return f"{preset.replicate_weights}: by {preset.method_columns[0]}"
    columns = [str(preset.replicate_weights)] if preset.replicate_weights else []
    if preset.zone:
        columns.append(f"{preset.zone}, {preset.rep}")
    if preset.replicates_by_weight:
        columns.append("named after the weight")
    words = VARIANCES[str(preset.replicate_type)].format(fay=preset.fay)
    first = "; variance of the first plausible value" if preset.sampling_variance == "first" else ""
    return f"{' or '.join(columns)}: {words}{first}"


def markdown() -> str:
    """Lay the presets out as the tables of the documentation page (docs/surveys.md).

    Returns
    -------
    str
        Markdown: weights, then variance and names, then sources by study.
    """
    everything = table()
    parts = [
        _rows(everything, ["rows", "level_1", "class", "school", "scaling", "plausible_values"]),
        _rows(everything, ["variance", "strata", "psu", "ids"]),
        "\n".join(_sources()),
    ]
    return "\n\n".join(parts)


def _rows(everything: pd.DataFrame, columns: list[str]) -> str:
    """One row for all presets that agree in these columns."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, row in everything[columns].iterrows():
        cells = tuple(str(cell).replace("|", "or").replace("*", " × ") for cell in row)
        groups.setdefault(cells, []).append(f"`{name}`")
    head = ["preset", *(name.replace("_", " ") for name in columns)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join((', '.join(names), *cells))} |" for cells, names in groups.items()]
    return "\n".join(lines)


def _sources() -> list[str]:
    """One entry per study and set of facts: cycles that share them are named together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(SURVEYS):
        preset = SURVEYS[name]
        facts = (preset.advice, " ".join(preset.remarks), " ".join(preset.sources))
        groups.setdefault(facts, []).append(preset.title)
    lines = []
    for (advice, remarks, sources), titles in groups.items():
        lines.append(f"- **{', '.join(titles)}.** {advice} {remarks} *Sources:* {sources}".replace("  ", " "))
    return lines
