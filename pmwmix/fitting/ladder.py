"""Numbers of nodes that the automatic choice goes through."""

from __future__ import annotations

from pmwmix.likelihood.layout import ThetaLayout

LADDER = (3, 5, 7, 11, 15, 21, 31, 51)
MOST_PLACES = 2_000  # nodes of one unit that are tried only to see whether fewer are enough
MOST = {1: 51, 2: 15, 3: 7}  # nodes per dimension by the number of random effects of a level; Laplace beyond


def rungs(layout: ThetaLayout) -> tuple[tuple[int, ...], ...]:
    """Numbers of nodes per level, from few to many; a level with many effects keeps to Laplace."""
    found = tuple(tuple(min(n, MOST.get(q, 1)) for q in layout.q) for n in LADDER)
    return found[1:] if layout.q == (1,) else found


def beyond(layout: ThetaLayout, n_agq: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of nodes to compare given ones with: each the next rung, or half as many again; none for many effects."""
    if any(q not in MOST for q in layout.q):
        return ()
    found = tuple(
        next((n for n in LADDER if max(own, 3) < n <= MOST[q]), own + (own + 1) // 2)
        for own, q in zip(n_agq, layout.q, strict=True)
    )
    return found if all(n**q <= MOST_PLACES for n, q in zip(found, layout.q, strict=True)) else ()
