"""Data put on a device by name: the same code, the same numbers; refusals where that would change nothing."""

from __future__ import annotations

from typing import Any

import jax
import pandas as pd
import pytest
from helpers import close, nested

import pmwmix
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.likelihood import engine
from pmwmix.likelihood.device import first_device, too_large


def table() -> pd.DataFrame:
    return nested().assign(passed=lambda d: (d["y"] + 3 * d["w1"] > (d["y"] + 3 * d["w1"]).median()).astype(float))


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("passed ~ x + (1 | school)", {"family": "binomial", "n_agq": 3, "weights": {"school": "w3"}}),
        ("y ~ x + (1 | school)", {}),
        ("passed ~ x", {"family": "binomial"}),
    ],
)
def test_it_is_the_fit_without_a_device(formula: str, options: dict[str, Any], monkeypatch: Any) -> None:
    put: list[Any] = []
    own = engine._put
    monkeypatch.setattr(engine, "_put", lambda *of: put.append((own(*of), of[1])) or put[-1][0])
    theirs = pmwmix.fit(formula, table(), engine="jax", **options)
    assert {device for _, device in put} <= {None}
    put.clear()
    mine = pmwmix.fit(formula, table(), device="cpu", **options)
    close(mine.coef, theirs.coef, 1e-12)
    close(mine.vcov, theirs.vcov, 1e-12)
    close(mine.loglik, theirs.loglik, 1e-12)
    assert mine.rows.engine == "jax on cpu"  # which refits, replicates and the bootstrap take over
    if formula != "passed ~ x":  # whose rows are handed over with every call
        arrays = [one for found, device in put if device == "cpu" for one in found]
        assert arrays and all(one.committed and one.devices() == {jax.devices("cpu")[0]} for one in arrays)


def test_what_follows_from_a_fit_on_a_device_may_be_evaluated_in_numpy() -> None:
    """Without its random term the model is evaluated in numpy; nobody asked that for a device."""
    mine, theirs = (
        pmwmix.fit("y ~ x + (1 | school)", table(), engine=e, device=d) for e, d in (("jax", "cpu"), ("jax", None))
    )
    close(*(pmwmix.ranova(one).select_dtypes("number") for one in (mine, theirs)), 1e-9, 1e-12)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"device": "tpu"}, OptionError, r"device='tpu'\. Use 'cpu' or 'gpu'"),
        ({"device": "cpu", "engine": "numba"}, OptionError, "other engines know none"),
        ({"device": "cpu", "method": "bayes"}, NotSupportedError, "method='bayes'"),
        ({"device": "cpu", "random": "discrete(2)"}, NotSupportedError, "evaluated in numpy"),
        ({"device": "cpu", "residual": {"variance": "ident(school)"}}, NotSupportedError, "would change nothing"),
        ({"device": "cpu", "method": "pairwise"}, NotSupportedError, "would change nothing"),
    ],
)
def test_what_a_device_cannot_do_is_refused(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        pmwmix.fit("y ~ x + (1 | school)", table(), **options)


def test_a_device_that_is_not_there_and_one_that_is_full(monkeypatch: Any) -> None:
    there = jax.devices("cpu")

    def without_gpu(kind: str | None = None) -> Any:
        if kind == "gpu":
            raise RuntimeError("Unknown backend: 'gpu' requested")
        return there

    monkeypatch.setattr(jax, "devices", without_gpu)
    with pytest.raises(OptionError, match=r"JAX finds no GPU.*there is: cpu.*pip install"):
        pmwmix.fit("y ~ x + (1 | school)", table(), device="gpu")
    assert first_device("cpu") == there[0]
    full = too_large(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating"), "gpu")
    assert isinstance(full, NotSupportedError) and "memory of the device" in str(full)
    assert too_large(RuntimeError("INTERNAL: something else"), "gpu") is None
