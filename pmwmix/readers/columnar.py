"""Parquet, with labels and report in the metadata where `pmwmix.convert` wrote them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.readers.report import KEY, value_labels
from pmwmix.readers.source import Contents, Format, Tick, unreadable

ATTRS = b"PANDAS_ATTRS"  # where pandas keeps DataFrame.attrs, so that pandas.read_parquet finds the report too


def _contents(path: Path) -> Contents:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, n_rows = file.schema_arrow, file.metadata.num_rows
            metadata = {**(file.metadata.metadata or {}), **(schema.metadata or {})}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unreadable(path, error) from error
    names = [name for name in schema.names if not name.startswith("__index_level_")]
    stored = stored_report(metadata)
    if stored is None:
        return Contents(path, names, n_rows)
    return Contents(
        path=path,
        names=names,
        n_rows=n_rows,
        labels=stored.get("labels", {}),
        values={name: value_labels(pairs) for name, pairs in stored.get("values", {}).items()},
        declared={name: [(low, high) for low, high in pairs] for name, pairs in stored.get("declared", {}).items()},
        stored=stored,
    )


def stored_report(metadata: Mapping[bytes, bytes]) -> dict[str, Any] | None:
    """Find the report that `convert` wrote among what a file says of itself."""
    try:
        found = json.loads(metadata.get(ATTRS, b"{}")).get(KEY)
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, dict) else None


def _read(path: Path, names: list[str], rows: np.ndarray | None, tick: Tick | None) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if rows is None:
            table = pq.read_table(path, columns=names)
        else:
            parts, first = [], 0
            with pq.ParquetFile(path) as file:
                schema = pa.schema([file.schema_arrow.field(name) for name in names])
                for batch in file.iter_batches(columns=names, use_pandas_metadata=False):
                    wanted = rows[first : first + len(batch)]
                    first += len(batch)
                    if wanted.any():
                        parts.append(pa.Table.from_batches([batch]).select(names).filter(pa.array(wanted)))
            table = pa.concat_tables(parts) if parts else schema.empty_table()
        frame = table.to_pandas(ignore_metadata=True, split_blocks=True, self_destruct=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if tick is not None:
        tick(path.stat().st_size)
    return frame[names]


COLUMNAR = Format(_contents, _read)
