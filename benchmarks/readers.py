"""Reading 60 of 1,000 columns of a simulated PISA-like .sav file, beside pyreadstat alone on the same columns.

    python benchmarks/readers.py --students 300000 --repeats 5

Each repeat times both, one after the other, in this process; the file is written to a temporary folder first.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _harness import parser_of, timed

N_COLUMNS = 1_000
LABELS = {
    1.0: "Strongly disagree", 2.0: "Disagree", 3.0: "Agree", 4.0: "Strongly agree",
    95.0: "Valid Skip", 97.0: "Not Applicable", 98.0: "Invalid", 99.0: "No Response",
}  # fmt: skip


def main() -> None:
    """Write the file, time both, print medians."""
    parser = parser_of(__doc__)
    parser.add_argument("--students", type=int, default=300_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write the file (about 580 MB for 300,000 students)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        path = Path(name) / "stu.sav"
        chosen = write(path, options.students)
        print(f"{options.students:,} students, {N_COLUMNS} columns, {path.stat().st_size / 2**20:,.0f} MiB")
        print(f"{len(chosen)} columns read; medians (all) in seconds of {options.repeats}")
        show(measure(path, chosen, options.repeats))


def write(path: Path, n: int) -> list[str]:
    """Write a compressed .sav with weights, replicates, plausible values and labelled items; give 60 columns."""
    import pyreadstat

    rng = np.random.default_rng(2018)
    country = np.sort(rng.integers(0, 80, n))
    d: dict[str, Any] = {
        "CNT": np.array([f"C{k:02d}" for k in range(80)])[country],
        "CNTSCHID": 1000.0 * country + rng.integers(0, 250, n),
        "CNTSTUID": np.arange(n, dtype=float),
        "W_FSTUWT": rng.uniform(1, 50, n),
    }
    d |= {f"PV{k}{name}": rng.normal(500, 100, n) for name in ("MATH", "READ", "SCIE") for k in range(1, 11)}
    d |= {f"W_FSTURWT{k}": rng.uniform(1, 50, n) for k in range(1, 81)}
    items = [f"ST{k:03d}Q01TA" for k in range(1, N_COLUMNS - len(d) + 1)]
    share = [0.2, 0.3, 0.2, 0.2, 0.025, 0.025, 0.025, 0.025]
    d |= {name: rng.choice(list(LABELS), n, p=share) for name in items}
    pyreadstat.write_sav(
        pd.DataFrame(d),
        str(path),
        row_compress=True,
        column_labels={name: f"What {name} asks" for name in d},
        variable_value_labels=dict.fromkeys(items, LABELS),
        missing_ranges={name: [{"lo": 95, "hi": 99}] for name in items},
    )
    pv = [f"PV{k}MATH" for k in range(1, 11)]
    return ["CNT", "CNTSCHID", "CNTSTUID", "W_FSTUWT", *pv, *items[: 60 - 14]]


def measure(path: Path, chosen: list[str], repeats: int) -> dict[str, list[float]]:
    """Time every way of reading."""
    import pyreadstat

    from pmwmix import convert, read_survey

    parquet = path.with_suffix(".parquet")
    ways: dict[str, Callable[[], Any]] = {
        "pyreadstat alone": lambda: pyreadstat.read_sav(str(path), usecols=chosen),
        "read_survey": lambda: read_survey(path, columns=chosen, progress=False),
        "read_survey, labels=True": lambda: read_survey(path, columns=chosen, labels=True, progress=False),
        "read_survey, 2 of 80 countries": lambda: read_survey(path, columns=chosen, countries=["C07", "C41"]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(timed(way)[0])
    seconds["convert, all columns"] = [timed(lambda: convert(path, parquet, progress=False))[0]]
    seconds["read_survey of the parquet"] = [
        timed(lambda: read_survey(parquet, columns=chosen))[0] for _ in range(repeats)
    ]
    return seconds


def show(seconds: dict[str, list[float]]) -> None:
    """Print medians and their ratio to pyreadstat's."""
    base = statistics.median(seconds["pyreadstat alone"])
    for name, each in seconds.items():
        middle = statistics.median(each)
        print(f"{name:32} {middle:7.2f}  {middle / base:5.2f} x   ({', '.join(f'{one:.2f}' for one in each)})")


if __name__ == "__main__":
    main()
