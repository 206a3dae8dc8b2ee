"""Prior distributions: defaults scaled to the data, and what the caller puts in their place.

A prior belongs to a parameter by its key: a term (``"escs"``), ``"Intercept"``, a standard deviation of random effects
(``"school.escs"``), ``"sigma"``, the correlations of a group (``"school"``), or to a class of them: ``"fixed"``,
``"sd"``, ``"cor"``, ``"phi"``.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import rvs_in_graph
from pytensor.graph.basic import Variable
from pytensor.graph.replace import clone_replace

from pmwmix._types import Array
from pmwmix.errors import OptionError, near, some
from pmwmix.likelihood.engine import ENGINES

CLASSES = ("fixed", "sd", "cor", "phi")
SLOPE = 2.5  # of a default prior: standard deviations of the outcome per standard deviation of the predictor
SD_DF = 3.0  # degrees of freedom of the half-t prior of standard deviations
LKJ_ETA = 2.0
PHI = 2.5
PLAIN = ENGINES["python"]()  # evaluated once: compiling would take longer


@dataclass(frozen=True)
class Prior:
    """The prior of one scalar parameter, or of the correlations of one random term.

    Parameters
    ----------
    key : str
        Parameter.
    text : str
        How it reads in a summary.
    make : callable or float
        Name -> PyMC variable, inside a model; for correlations the LKJ shape (a number); None of a default prior.
    default : bool
    normal : tuple of float or None
        Mean and standard deviation of a normal prior, so that several become one vector.
    scale : float or None
        Of a half Student t.
    """

    key: str
    text: str
    make: Any
    default: bool
    normal: tuple[float, float] | None = None
    scale: float | None = None

    @property
    def numbers(self) -> tuple[float, float]:
        """Location and scale: data of the model, which models with other numbers share."""
        return self.normal or (0.0, 1.0 if self.scale is None else self.scale)

    @property
    def kind(self) -> str | float | None:
        """What of the prior is no number; None if it was made by the caller, like no other."""
        if callable(self.make):
            return None
        return self.make if self.make is not None else "normal" if self.normal is not None else "half t"

    def variable(self, name: str, numbers: Any) -> Any:
        """Make the PyMC variable, inside a model; ``numbers`` holds location and scale (2,)."""
        if self.normal is not None:
            return pm.Normal(name, numbers[0], numbers[1])
        if self.scale is not None:
            return pm.HalfStudentT(name, nu=SD_DF, sigma=numbers[1])
        return self.make(name)


def normal(key: str, mu: float, sigma: float) -> Prior:
    """Give the default prior of a coefficient."""
    return Prior(key, f"Normal({mu:.4g}, {sigma:.4g})", None, True, (mu, sigma))


def half_t(key: str, scale: float) -> Prior:
    """Give the default prior of a standard deviation: half Student t with 3 degrees of freedom."""
    text = f"HalfStudentT({SD_DF:g}, {scale:.4g})"
    return Prior(key, text, None, True, scale=scale)


def lkj(key: str, eta: float, default: bool = True) -> Prior:
    """Give the prior of a correlation matrix (Lewandowski, Kurowicka & Joe 2009)."""
    return Prior(key, f"LKJ({eta:g})", float(eta), default)


def read_priors(given: Any, keys: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Check the keys and values of the argument ``priors``.

    Parameters
    ----------
    given : dict or None
        Key -> PyMC distribution made by ``.dist()``, text such as ``"Normal(0, 10)"``, a PreliZ distribution, or for
        correlations ``"LKJ(2)"``.
    keys : dict of sequence of str
        Known keys by class.

    Returns
    -------
    dict
        Key -> PyMC variable or, for correlations, a number.

    Raises
    ------
    OptionError
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise OptionError(
            f"Priors are a dict from parameters to distributions. Got {type(given).__name__}. "
            f'Write for example priors={{"escs": "Normal(0, 10)"}}.'
        )
    every = [key for part in keys.values() for key in part]
    out = {}
    for key, value in given.items():
        if key not in CLASSES and key not in every:
            raise OptionError(
                f"Priors belong to parameters of the model. There is no parameter {key!r}.{near(str(key), every)} "
                f"Use {some(every, 20)}; 'fixed', 'sd', 'cor' and 'phi' stand for all of their kind."
            )
        if every.count(key) + (key in CLASSES) > 1:
            raise OptionError(
                f"A key of priors stands for one parameter or one kind of them. {key!r} stands for several here. "
                f"Rename the column, or give the prior to the kind: 'fixed', 'sd', 'cor', 'phi'."
            )
        if key == "cor" or key in keys["cor"]:
            out[key] = _read_lkj(key, value)
        else:
            scale = key == "sd" or key in keys["sd"] or (keys["phi"] == ("sigma",) and key in ("sigma", "phi"))
            out[key] = _read_distribution(key, value, scale)
    return out


def replaced(key: str, kind: str, given: Mapping[str, Any], default: Prior) -> Prior:
    """Give the caller's prior of a parameter, or that of its class, or the default."""
    found = next((name for name in (key, kind) if name in given), None)
    if found is None:
        return default
    value = given[found]
    if isinstance(value, float):
        return lkj(key, value, default=False)

    def make(name: str) -> Any:
        (copy,) = clone_replace([value])
        return pm.modelcontext(None).register_rv(copy, name=name, transform=pm.model.core.UNSET)

    return Prior(key, text_of(value), make, False)


def text_of(variable: Any) -> str:
    """Spell a distribution, ``Normal(0, 10)``."""
    op = variable.owner.op
    print_name = getattr(op, "_print_name", None)
    name = print_name[0] if print_name else type(op).__name__.removesuffix("RV")
    if hasattr(op, "dist_params"):
        parts = list(op.dist_params(variable.owner))
    else:
        parts = [i for i in variable.owner.inputs if getattr(i.type, "dtype", "") and i.type.ndim == 0]
    return f"{name}({', '.join(_number(part) for part in parts)})"


def _number(value: Any) -> str:
    try:
        found = np.asarray(value.eval(), dtype=float)
    except Exception:
        return "..."
    return f"{float(found):.4g}" if found.ndim == 0 else str(found.tolist())


def _read_lkj(key: str, value: Any) -> float:
    if isinstance(value, str):
        name, args, kwargs = _parse(key, value)
        if name == "LKJ" and len(args) + len(kwargs) == 1:
            value = (args or list(kwargs.values()))[0]
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < float(value) < np.inf:
        return float(value)
    raise OptionError(
        f"Correlations of random effects have an LKJ prior with one positive number. Got {value!r} for {key!r}. "
        f'Write for example "LKJ(2)"; 1 is uniform, larger values favour small correlations.'
    )


def _read_distribution(key: str, value: Any, positive: bool) -> Any:
    if isinstance(value, str):
        value = _from_text(key, value)
    elif not isinstance(value, Variable) and hasattr(value, "to_pymc"):
        value = value.to_pymc()
    if not isinstance(value, Variable) or value.owner is None:
        raise OptionError(
            f"A prior is a PyMC distribution or a text. Got {type(value).__name__} for {key!r}. "
            f'Write "Normal(0, 10)" or pm.Normal.dist(0, 10).'
        )
    try:
        with pytensor.config.change_flags(linker="py"):
            draws = np.asarray(pm.draw(value, draws=200, random_seed=1, mode=PLAIN))
    except Exception as error:
        raise OptionError(
            f"The prior of {key!r} cannot be drawn from. {type(error).__name__}: {str(error)[:200].rstrip('.')}. "
            f"Give a PyMC distribution with numbers as parameters."
        ) from error
    if draws.shape != (200,):
        raise OptionError(
            f"A prior belongs to one number. That of {key!r} has shape {draws.shape[1:]}. Leave out shape and dims."
        )
    if value.type.dtype.startswith(("int", "uint", "bool")):
        raise OptionError(
            f"The sampler needs priors with a density. That of {key!r}, {text_of(value)}, is discrete. "
            f"Use a continuous distribution, such as Normal or Gamma."
        )
    density = _log_density(key, value)
    if not np.isfinite(density(draws)).all():
        raise OptionError(
            f"The prior of {key!r} has impossible parameters. The density of {text_of(value)} cannot be computed. "
            f"Check its parameters, such as a negative standard deviation."
        )
    if positive and ((draws < 0).any() or np.isfinite(density(-np.quantile(np.abs(draws), [1e-9, 0.5]))).any()):
        raise OptionError(
            f"A standard deviation is positive. The prior of {key!r}, {text_of(value)}, allows negative values. "
            f"Use a distribution on the positive numbers, such as HalfNormal or Gamma."
        )
    return value


def _log_density(key: str, value: Any) -> Callable[[Array], Array]:
    """Give the log-density of a distribution as a function of points, refusing what has none."""
    try:
        at = pt.dvector("at")
        logp = pm.logp(value, at, warn_rvs=False)
    except Exception as error:
        raise OptionError(
            f"The sampler needs priors with a density. PyMC knows none of {text_of(value)}, given for {key!r}. "
            f"Use another distribution."
        ) from error
    if rvs_in_graph(logp):
        raise OptionError(
            f"A prior is a distribution with numbers as parameters. Those of {key!r}, {text_of(value)}, "
            f"are random themselves. Put numbers in their place."
        )

    def evaluate(points: Array) -> Array:
        with np.errstate(all="ignore"):
            try:
                return np.asarray(logp.eval({at: points}, mode=PLAIN))
            except Exception:  # outside of what the distribution can evaluate at all
                return np.full(len(points), -np.inf)

    return evaluate


def _parse(key: str, text: str) -> tuple[str, list[Any], dict[str, Any]]:
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            raise ValueError
        args = [ast.literal_eval(arg) for arg in node.args]
        kwargs = {str(part.arg): ast.literal_eval(part.value) for part in node.keywords}
    except (SyntaxError, ValueError) as error:
        raise OptionError(
            f"A prior in words is a distribution with numbers. Got {text!r} for {key!r}. "
            f'Write for example "Normal(0, 10)" or "HalfNormal(sigma=50)".'
        ) from error
    return node.func.id, args, kwargs


def _from_text(key: str, text: str) -> Any:
    name, args, kwargs = _parse(key, text)
    kind = getattr(pm, name, None)
    if not (isinstance(kind, type) and hasattr(kind, "dist")):
        known = [n for n in dir(pm) if isinstance(getattr(pm, n), type) and hasattr(getattr(pm, n), "dist")]
        raise OptionError(
            f"Unknown distribution {name!r} in the prior of {key!r}.{near(name, known)} Use a name of PyMC's, as in "
            f'"Normal(0, 10)".'
        )
    try:
        named = [part for part in inspect.signature(kind.dist).parameters if part not in ("args", "kwargs")]
        if len(args) > len(named):
            raise TypeError(f"{len(args)} numbers for {len(named)} parameters")
        wrong = [part for part in kwargs if part not in named]
        if wrong:  # PyMC would not look at it
            raise TypeError(f"there is no parameter {wrong[0]!r} among {', '.join(named)}")
        return kind.dist(**dict(zip(named, args, strict=False)), **kwargs)
    except Exception as error:
        raise OptionError(
            f"The prior {text!r} of {key!r} cannot be made. {type(error).__name__}: {str(error)[:200].rstrip('.')}. "
            f"See PyMC's documentation of {name}."
        ) from error


__all__ = ["CLASSES", "Prior", "half_t", "lkj", "normal", "read_priors", "replaced", "text_of"]
