"""A source cut into shares of whole files or row groups, each of which another process reads by itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from pmwmix.data.pieces import Stream, arrow_reader
from pmwmix.running import processes_of

PER_PROCESS = 2  # shares, so that all processes are done at about the same time


class Share(Stream):
    """Some files of a data set; it travels as their names, and rows are read where they are asked for."""

    def __init__(self, names: Sequence[str], budget: float, dataset: Any) -> None:
        super().__init__(names, arrow_reader(dataset)[1], budget, "pyarrow")
        self.dataset = dataset

    def __reduce__(self) -> tuple[Any, ...]:
        return Share, (self.names, self.budget, self.dataset)


def shares_of(stream: Stream) -> list[Share]:
    """Cut a source for the executor that it was given; nothing where one process reads it all.

    Notes
    -----
    Only files can be cut: what DuckDB, polars or Dask read comes through their own engines, and a filtered data set
    does not give its files away.
    """
    data = stream.dataset
    if stream.executor is None or not hasattr(data, "files"):
        return []
    import pyarrow.dataset as ds

    try:
        parts = list(data.get_fragments())
    except ValueError:  # pyarrow's word for a filtered one
        return []
    processes = processes_of(stream.executor)
    many = PER_PROCESS * max(processes, 2)
    if len(parts) < many:
        parts = [group for part in parts for group in part.split_by_row_group()]
    edges = np.unique(np.linspace(0, len(parts), min(many, len(parts)) + 1).round().astype(int)).tolist()
    every = [
        ds.FileSystemDataset(parts[a:b], data.schema.remove_metadata(), data.format, data.filesystem)
        for a, b in pairwise(edges)
        if b > a
    ]
    return [Share(stream.names, stream.budget / processes, one) for one in every] if len(every) > 1 else []
