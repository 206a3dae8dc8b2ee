"""Data larger than memory, read piece by piece: parquet folders, pyarrow data sets, polars, DuckDB and Dask."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from pmwmix.data.table import Table
from pmwmix.errors import (
    DataError,
    FileError,
    MissingPackageError,
    NotSupportedError,
    OptionError,
    PmwmixError,
    missing_columns,
    some,
)
from pmwmix.readers.columnar import stored_report
from pmwmix.readers.report import value_labels

GIB = 2**30
BUDGET = 2.0 * GIB
FEWEST, MOST = 4_096, 262_144  # rows of a piece
SHARE = 16  # of the budget that a piece may take
CELL = 32  # bytes of a cell while it is read: the file's own, Arrow's, pandas', standardised
UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
SQL = re.compile(r"\s*(select|from|with)\s", re.IGNORECASE)

Read = Callable[[list[str], int], Iterator[Any]]


@dataclass(frozen=True)
class Piece:
    """Some rows.

    Parameters
    ----------
    columns : dict of str to Series, each (n,)
        As `Table.columns` gives them.
    declared : dict
        Categories that a column was declared with, whether rows here have them or not.
    """

    columns: dict[str, pd.Series]
    declared: dict[str, pd.CategoricalDtype]

    def __len__(self) -> int:
        """Give the number of rows."""
        return len(next(iter(self.columns.values())))


class Stream:
    """Columns by name that are never held whole: every pass reads them again, a piece after the other.

    Parameters
    ----------
    names : sequence of str
    read : callable
        ``read(names, rows)`` yields tables of these columns with about as many rows, the same in every pass.
    budget : float
        Bytes that a fit may hold.
    what : str
        Kind of the source, for messages.
    """

    is_part: ClassVar[bool] = False

    def __init__(self, names: Sequence[str], read: Read, budget: float, what: str) -> None:
        self.names = [str(name) for name in names]
        self.budget, self.what, self._read = budget, what, read
        self.dataset: Any = None  # of files, which can be cut into shares
        self.executor: Any = None  # what reads them side by side
        self.labels: dict[str, str] = {}
        self.values: dict[str, dict[Any, str]] = {}

    @classmethod
    def of(cls, data: Any, budget: float) -> Stream:
        """Read a source that is known to be read in pieces."""
        found = _reader(data, True)
        assert found is not None
        return cls(found[0], found[1], budget, found[2])

    def __reduce__(self) -> tuple[Any, ...]:
        return Stream, (self.names, _gone, self.budget, self.what)

    def columns(self, needed: Sequence[str], role: str = "") -> dict[str, pd.Series]:
        """Refuse to hold whole columns."""
        raise NotSupportedError(
            f"Data that are streamed are never held whole. Columns {some(needed)} would have to be"
            f"{f' ({role})' if role else ''}. Name every column in the call (weights=, pv=, formula) without a survey "
            f"preset, products of columns or ids=, or fit a table in memory."
        )

    def pieces(self, needed: Sequence[str], role: str = "") -> Iterator[Piece]:
        """Yield plain columns of one piece after the other.

        Raises
        ------
        MissingColumnsError, DataError, FileError
        """
        wanted = list(dict.fromkeys(needed))
        missing = [name for name in wanted if name not in self.names]
        if missing:
            raise missing_columns(missing, self.names, role)
        rows = int(min(max(self.budget / SHARE / (CELL * max(len(wanted), 1)), FEWEST), MOST))
        try:
            for number, piece in enumerate(self._read(wanted, rows), start=1):
                if len(piece):
                    yield _plain(piece, wanted, number)
        except PmwmixError:
            raise
        except MemoryError:
            raise
        except Exception as error:  # whatever the engine that reads raises: damaged files, wrong SQL, lost workers
            text = " ".join(str(error).split())[:300]
            raise FileError(
                f"A piece of the data cannot be read. {self.what} failed with {type(error).__name__}: {text}. "
                f"Repair or leave out what is damaged; nothing was fitted."
            ) from error


def _gone(names: list[str], rows: int) -> Iterator[Any]:
    raise NotSupportedError(
        "A streamed fit that was copied to another process has lost its source. Its data are not sent along. "
        "Ask the fit in the process that made it."
    )


def _plain(piece: Any, wanted: Sequence[str], number: int) -> Piece:
    found = [str(name) for name in piece.columns] if hasattr(piece, "columns") and not _is_arrow(piece) else None
    lacking = [] if found is None else [name for name in wanted if name not in found]
    if lacking:
        raise DataError(
            f"All pieces need the same columns. Piece {number} lacks {some(lacking)}. Write it again with them."
        )
    table = Table(piece)
    return Piece(table.columns(wanted), table.declared)


def _is_arrow(piece: Any) -> bool:
    return type(piece).__module__.startswith("pyarrow")


def read_memory(memory: Any) -> float | None:
    """Read ``"2GiB"``, ``"500 MB"`` or a number of bytes.

    Raises
    ------
    OptionError
    """
    if memory is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(memory)) if not isinstance(memory, bool) else None
    unit = UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None or float(match[1]) * unit < 2**20:
        raise OptionError(
            f"A memory budget is text with a unit, or a number of bytes, at least 1 MiB. Got memory={memory!r}. "
            f"Write memory='2GiB'."
        )
    return float(match[1]) * unit


def stream_of(data: Any, memory: Any = None, executor: Any = None) -> Stream | None:
    """Give the stream that data are to be read as; None for a table, or a file that is read whole.

    Parameters
    ----------
    data : object
        What was given to `pmwmix.fit`.
    memory : str or float, optional
        A budget, with which a single parquet file and a polars LazyFrame are streamed too.
    executor : object, optional
        Reads the files of a data set side by side.

    Raises
    ------
    OptionError, FileError, MissingPackageError
    """
    budget = read_memory(memory)
    read = _reader(data, budget is not None)
    if read is None:
        if budget is not None:
            raise OptionError(
                f"A memory budget is for data that are read in pieces. Got {type(data).__name__}, which is in memory "
                f"or is read whole. Pass a folder of parquet files, a parquet file, a pyarrow data set, a polars "
                f"LazyFrame, a DuckDB relation or a Dask DataFrame, or leave memory out."
            )
        return None
    names, pieces, what = read
    out = Stream(names, pieces, BUDGET if budget is None else budget, what)
    if what == "pyarrow":
        out.dataset, out.executor = opened(Path(data)) if isinstance(data, str | Path) else data, executor
        out.labels, out.values = _labels(out.dataset)
    return out


def _reader(data: Any, asked: bool) -> tuple[Sequence[str], Read, str] | None:
    """Names, reader and kind of a source."""
    module = type(data).__module__.partition(".")[0]
    if isinstance(data, str) and SQL.match(data):
        return _duckdb(installed("duckdb", "SQL").sql(data))
    if isinstance(data, str | Path):
        path = Path(data)
        return arrow_reader(opened(path)) if _is_folder(path) or (asked and path.suffix == ".parquet") else None
    if module == "pyarrow" and hasattr(data, "scanner"):
        return arrow_reader(data)
    if module == "polars" and type(data).__name__ == "LazyFrame":
        return _polars(data) if asked else None
    if module in ("duckdb", "_duckdb"):
        return _duckdb(data)
    if module in ("dask", "dask_expr"):
        return _dask(data)
    return None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that no file can have: what reads files says so
        return False


def installed(name: str, what: str) -> Any:
    """Import an optional package.

    Raises
    ------
    MissingPackageError
    """
    try:
        return __import__(name)
    except ImportError as error:
        raise MissingPackageError(
            f"{what} needs the package {name!r}. It is not installed. Run pip install 'pmwmix[scale]'."
        ) from error


def opened(path: Path) -> Any:
    """Open a parquet file, or a folder of them, as a data set.

    Raises
    ------
    FileError
    """
    import pyarrow.dataset as ds

    files = [str(path)]
    if path.is_dir():
        files = sorted(str(one) for one in path.rglob("*.parquet") if one.name[0] not in "._")
    if not files:
        raise FileError(f"A folder of data holds parquet files. {path} has none. Check the path.")
    try:
        partitioning = "hive" if path.is_dir() else None
        found = ds.dataset(files, format="parquet", partitioning=partitioning)
        if len(files) > 1:
            found = ds.dataset(files, format="parquet", partitioning=partitioning, schema=_common(found))
        return found
    except (OSError, ValueError, TypeError) as error:
        raise FileError(
            f"A parquet file cannot be read. In {path}: {' '.join(str(error).split())[:200]}. Check the path, or write "
            f"the file again."
        ) from error


def _labels(data: Any) -> tuple[dict[str, str], dict[str, dict[Any, str]]]:
    """Labels of variables and values that `convert` left in the files; those of the first."""
    report = stored_report(data.schema.metadata or {}) or {}
    values = {name: value_labels(pairs) for name, pairs in report.get("values", {}).items()}
    return dict(report.get("labels", {})), values


def _common(data: Any) -> Any:
    """Give a schema that holds the values of all files: where some have whole numbers, all have numbers."""
    import pyarrow as pa

    out, schemas = data.schema, [data.schema, *_schemas(data).values()]
    for number, name in enumerate(out.names):
        fields = [own.field(name) for own in schemas if name in own.names]
        if any(field.type != fields[0].type for field in fields):
            plain = [pa.field(name, _undictionaried(field.type)) for field in fields]
            try:
                joint = pa.unify_schemas([pa.schema([field]) for field in plain], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError):  # what cannot be one is said when the column is used
                continue
            out = out.set(number, joint.field(0))
    return out


def _undictionaried(type_: Any) -> Any:
    import pyarrow.types as kinds

    return type_.value_type if kinds.is_dictionary(type_) else type_


def arrow_reader(data: Any) -> tuple[Sequence[str], Read, str]:
    """Read a pyarrow data set; only the wanted columns, and rows that its filter lets through, leave the files."""
    import pyarrow as pa

    def read(names: list[str], rows: int) -> Iterator[Any]:
        _check_fragments(data, names)
        scanner = data.scanner(columns=names, batch_size=rows, batch_readahead=1, fragment_readahead=1)
        for batch in scanner.to_batches():
            yield pa.Table.from_batches([batch])

    return data.schema.names, read, "pyarrow"


def _check_fragments(data: Any, names: Sequence[str]) -> None:
    """Refuse a file that lacks columns, or has numbers where others have text; Arrow would fill them with nulls."""
    schemas = _schemas(data)
    of_files = {name for own in schemas.values() for name in own.names}  # others stand in the names of folders
    kinds = {name: _kind(data.schema.field(name).type) for name in names if name in of_files}
    for where, own in schemas.items():
        lacking = [name for name in kinds if name not in own.names]
        if lacking:
            raise DataError(
                f"All pieces need the same columns. {where} lacks {some(lacking)}. Write it again with them, or leave "
                f"it out."
            )
        for name, kind in kinds.items():
            if (other := _kind(own.field(name).type)) not in (kind, "nothing"):
                raise DataError(
                    f"A column is of one kind in all pieces. {name!r} is {other} in {where} and {kind} elsewhere. "
                    f"Write that file again."
                )


def _schemas(data: Any) -> dict[str, Any]:
    """Schemas of the files of a data set, those of a filtered one too; nothing of what is in memory."""
    import pyarrow.dataset as ds

    if not hasattr(data, "files"):
        return {}
    whole = ds.dataset(data.files, format=data.format, filesystem=data.filesystem)
    return {fragment.path: fragment.physical_schema for fragment in whole.get_fragments()}


def _kind(type_: Any) -> str:
    import pyarrow.types as kinds

    if kinds.is_null(type_):
        return "nothing"
    numbers = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal)
    return "numbers" if any(is_kind(type_) for is_kind in numbers) else "text"


def _polars(data: Any) -> tuple[Sequence[str], Read, str]:
    """Read a polars LazyFrame by its streaming engine."""
    if not hasattr(data, "collect_batches"):
        raise NotSupportedError(
            "Streaming a LazyFrame needs polars 1.34. An older one is installed. Run pip install -U polars, or leave "
            "memory= out, which collects it."
        )

    def read(names: list[str], rows: int) -> Iterator[Any]:
        for batch in data.select(names).collect_batches(chunk_size=rows, maintain_order=True):
            yield from (batch.slice(first, rows) for first in range(0, len(batch), rows))

    return data.collect_schema().names(), read, "polars"


def _duckdb(data: Any) -> tuple[Sequence[str], Read, str]:
    """Read a DuckDB relation, which leaves out the columns that are not wanted."""
    import pyarrow as pa

    def read(names: list[str], rows: int) -> Iterator[Any]:
        quoted = ('"' + name.replace('"', '""') + '"' for name in names)
        chosen = data.project(", ".join(quoted))
        found = getattr(chosen, "to_arrow_reader", None) or chosen.fetch_record_batch
        for batch in found(rows):
            yield pa.Table.from_batches([batch])

    return data.columns, read, "DuckDB"


def _dask(data: Any) -> tuple[Sequence[str], Read, str]:
    """Read a Dask DataFrame, a partition after the other."""

    def read(names: list[str], rows: int) -> Iterator[Any]:
        chosen = data[names]
        for number in range(chosen.npartitions):
            part = chosen.partitions[number].compute()
            yield from (part.iloc[first : first + rows] for first in range(0, len(part), rows))

    return list(data.columns), read, "Dask"
