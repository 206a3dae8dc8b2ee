"""The same frame with a random term, or a column of one, taken out; a level without terms goes with it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from pmwmix._types import Array
from pmwmix.frame.clusters import Clusters
from pmwmix.frame.crossing import parts_of
from pmwmix.frame.hierarchy import Hierarchy, arrange
from pmwmix.frame.modelframe import ModelFrame, RandomBlock
from pmwmix.frame.partweights import weighted_factor
from pmwmix.spec.randomterms import RandomTerm


def deletions(frame: ModelFrame) -> list[tuple[str, tuple[int, ...], tuple[str, ...]]]:
    """List what can be dropped: (text, positions of the term, column names that stay).

    A term with slopes loses one of them at a time (its intercept stays), any other term goes as a whole, as in
    lmerTest's ``ranova``. What all categories of a multinomial outcome share goes from all of them.
    """
    out: list[tuple[str, tuple[int, ...], tuple[str, ...]]] = []
    blocks = frame.designs[0].blocks
    shared: dict[RandomTerm, list[int]] = {}
    for position, block in enumerate(blocks):
        shared.setdefault(frame.formula.as_written(block.term), []).append(position)
    for term, places in shared.items():
        block, positions = blocks[places[0]], tuple(places)
        slopes = _slopes(block)
        if "Intercept" in block.matrix.names and slopes:
            for name, columns in slopes.items():
                stay = tuple(c for c in block.matrix.names if c not in columns)
                out.append((f"{name} in {term.place}", positions, stay))
        else:
            out.append((term.place, positions, ()))
    return out


def _slopes(block: RandomBlock) -> dict[str, tuple[str, ...]]:
    """Columns of each variable of a random term, the intercept left out; none of a structured one, which goes whole."""
    if block.matrix.spec is None or block.term.structure != "us":
        return {}
    structure = block.matrix.spec.structure
    return {str(s.term): tuple(s.columns) for s in structure if tuple(s.columns) != ("Intercept",)}


def without(frame: ModelFrame, positions: tuple[int, ...], stay: tuple[str, ...] = ()) -> ModelFrame:
    """Take a random term out of a frame, except for the columns in ``stay``."""
    designs = []
    for design in frame.designs:
        blocks = [
            _with_columns(block, stay) if position in positions else block
            for position, block in enumerate(design.blocks)
            if stay or position not in positions
        ]
        designs.append(replace(design, blocks=tuple(blocks)))
    out = replace(frame, designs=designs)
    used = {block.level for block in designs[0].blocks}
    if frame.residual is not None and frame.residual.spec.correlation is not None:
        used.add(0)  # the group inside which residuals are correlated
    for level in reversed(range(len(frame.hierarchy.levels))):
        if level not in used:
            out = _without_level(out, level)
    return out


def _with_columns(block: RandomBlock, stay: tuple[str, ...]) -> RandomBlock:
    matrix = block.matrix
    columns = [matrix.columns[j] for j, name in enumerate(matrix.names) if name in stay]
    spec = None if stay == ("Intercept",) else matrix.spec
    return replace(block, matrix=replace(matrix, names=stay, columns=columns, spec=spec))


def _without_level(frame: ModelFrame, gone: int) -> ModelFrame:
    """Take a level out; its conditional weights are handed down to its members."""
    if frame.hierarchy.crossed:
        return _without_factor(frame, gone)
    h = frame.hierarchy
    top_of_rows = h.levels[-1].index
    parents = [h.levels[0].index, *h.parents]
    w, cond = (_handed_down(each, gone, parents[gone]) for each in (frame.w, frame.cond))
    levels = tuple(level for i, level in enumerate(h.levels) if i != gone)
    if gone < len(h.parents):
        parents[gone] = parents[gone + 1][parents[gone]] if gone else levels[0].index
        del parents[gone + 1]
    else:
        del parents[gone]
    starts = np.concatenate([[0], np.cumsum(np.bincount(levels[0].index))]) if levels else np.zeros(1, dtype=np.int64)
    single = tuple(up.name for low, up in pairwise(levels) if up.n == low.n)
    hierarchy = Hierarchy(levels, h.order if levels else None, starts, tuple(parents[1:]), single)
    designs = [
        replace(d, blocks=tuple(replace(b, level=b.level - (b.level > gone)) for b in d.blocks)) for d in frame.designs
    ]
    pick = [i for i in range(len(frame.weighted)) if i != gone + 1]
    weighted = [frame.weighted[i] or (i == gone and frame.weighted[gone + 1]) for i in pick]
    clusters = (
        frame.clusters if gone < len(h.parents) else _same_clusters(frame, h.parents[-1] if gone else top_of_rows)
    )
    return replace(
        frame,
        hierarchy=hierarchy,
        designs=designs,
        w=w,
        weighted=tuple(weighted),
        weight_columns=tuple(frame.weight_columns[i] for i in pick),
        weight_stats={},
        cond=cond,
        clusters=clusters,
    )


def _handed_down(w: tuple[Array, ...], gone: int, parents: Array) -> tuple[Array, ...]:
    """Multiply weights of the members of a level by those of the level, which goes; none stay none."""
    return (*w[:gone], w[gone] * w[gone + 1][parents], *w[gone + 2 :]) if w else ()


def _without_factor(frame: ModelFrame, gone: int) -> ModelFrame:
    """Take a crossed factor out; what is left may be nested. Rows keep their weights, and so do independent parts."""
    h, old = frame.hierarchy, frame.clusters
    hierarchy = arrange([level for i, level in enumerate(h.levels) if i != gone])
    weighted = [frame.weighted[0], *(False for _ in hierarchy.levels)]
    columns = [frame.weight_columns[0], *(None for _ in hierarchy.levels)]
    if (at := weighted_factor(frame)) is not None:
        to = _keeper(hierarchy, h.levels[at].name)
        weighted[1 + to], columns[1 + to] = True, frame.weight_columns[1 + at]
    top = parts_of(hierarchy) if hierarchy.crossed else hierarchy.levels[-1].index
    clusters = old
    if old is not None:
        psu = np.zeros(int(top.max()) + 1, dtype=np.int64)
        psu[top] = old.psu[parts_of(h)]
        clusters = replace(old, psu=psu)
    designs = [
        replace(d, blocks=tuple(replace(b, level=b.level - (b.level > gone)) for b in d.blocks)) for d in frame.designs
    ]
    return replace(
        frame,
        hierarchy=hierarchy,
        designs=designs,
        w=_moved(frame.w, h, hierarchy, at),
        weighted=tuple(weighted),
        weight_columns=tuple(columns),
        weight_stats={},
        cond=_moved(frame.cond, h, hierarchy, at) if frame.cond else (),
        clusters=clusters,
    )


def _keeper(hierarchy: Hierarchy, name: str) -> int:
    """Choose the level that keeps the weights of independent parts: the top one, or the factor; else any factor does.

    Units of every crossed factor lie in one part, whose weight they all say (`partweights.part_weights`).
    """
    if not hierarchy.crossed:
        return len(hierarchy.levels) - 1
    return next((i for i, level in enumerate(hierarchy.levels) if level.name == name), 0)


def _moved(w: tuple[Array, ...], old: Hierarchy, new: Hierarchy, at: int | None) -> tuple[Array, ...]:
    """Lay weights of rows, and of the units of factor ``at`` if it has some, out by the levels that are left."""
    units = [np.ones(level.n) for level in new.levels]
    if at is not None:
        to = _keeper(new, old.levels[at].name)
        units[to][new.levels[to].index] = w[1 + at][old.levels[at].index]
    return (w[0], *units)


def _same_clusters(frame: ModelFrame, parent: Array) -> Clusters:
    """Keep the units of the robust variance when the top level goes: ``parent`` is the old top unit of each new one."""
    old, top = frame.clusters, frame.hierarchy.levels[-1]
    if old is None:
        return Clusters(parent, np.zeros(top.n, dtype=np.int64), top.n, 1, (top.name, None))
    return replace(old, psu=old.psu[parent])
