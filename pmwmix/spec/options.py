"""The arguments of ``fit`` beside formula, data and method, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from pmwmix.spec.design import Design

# names that can be added to have ``str`` beside those that come with the package
Family = (
    Literal[
        "gaussian", "binomial", "beta-binomial", "poisson", "negbinomial", "truncated-poisson", "zero-inflated-poisson",
        "zero-inflated-negbinomial", "hurdle-poisson", "hurdle-negbinomial", "gamma", "beta", "cumulative",
        "adjacent", "sequential",
        "lognormal", "multinomial", "student", "tweedie",
    ]
    | str
)  # fmt: skip
Scaling = Literal["none", "size", "size-lowest", "effective", "gk", "gk-sum", "A", "B"] | str | Callable[..., Any]
Vcov = (
    Literal[
        "model", "robust", "robust-block", "CR0", "CR1", "CR2", "CR3", "replicate", "replicate-one-step", "multiway",
        "stata", "hlm", "mplus", "wemix", "gllamm",
    ]
    | str
)  # fmt: skip
Random = Literal["normal", "t", "discrete(2)", "discrete(3)"] | str


class FitOptions(TypedDict, total=False):
    """Arguments of `pmwmix.fit` and their types."""

    family: Family | Sequence[Family] | Mapping[str, Family]
    link: str | Sequence[str | None] | Mapping[str, str] | None
    weights: str | Sequence[str | None] | Mapping[str, str] | None
    conditional: bool | None
    scaling: Scaling | None
    weights_top: Literal["mean1", "sum"] | None
    trim: float | Mapping[str, float] | None
    pv: Mapping[str, str | Sequence[str]] | None
    pv_pairing: Literal["number", "cross"] | None
    imputation: str | None
    design: Design | str | Mapping[str, Any] | None
    vcov: Vcov | None
    n_agq: int | tuple[int, ...] | None
    trials: str | None
    center: Mapping[str, str] | None
    residual: Mapping[str, Any] | None
    fixed: Mapping[str, float] | None
    random: Random
    subset: Any
    progress: bool | None
    engine: Literal["auto", "jax", "numpy", "numba", "c", "python"] | None
    device: Literal["cpu", "gpu"] | None
    executor: Any
    chunk_size: int | None
    draws: int | None
    tune: int | None
    chains: int | None
    random_seed: int | None
    sampler: str | Mapping[str, Any] | None
    priors: Mapping[str, Any] | None
    memory: str | float | None
