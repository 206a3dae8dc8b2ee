"""Numbers of nodes that the automatic choice goes through."""

from __future__ import annotations

from pmwmix.likelihood.layout import ThetaLayout

LADDER = (3, 5, 7, 11, 15, 21, 31, 51)
MOST = {1: 51, 2: 15, 3: 7}  # nodes per dimension by the number of random effects of a level; Laplace beyond


def rungs(layout: ThetaLayout) -> tuple[tuple[int, ...], ...]:
    """Numbers of nodes per level, from few to many; a level with many effects keeps to Laplace."""
    found = tuple(tuple(min(n, MOST.get(q, 1)) for q in layout.q) for n in LADDER)
    return found[1:] if layout.q == (1,) else found
