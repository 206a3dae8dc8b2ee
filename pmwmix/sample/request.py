"""The arguments of ``fit`` that concern sampling; checked before any work, without importing PyMC."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from pmwmix.errors import NotSupportedError, OptionError, near
from pmwmix.running import is_wanted

SAMPLERS = ("nutpie", "pymc", "numpyro", "blackjax")
OWN = ("draws", "tune", "chains", "seed", "random_seed", "cores", "progress_bar", "initvals", "model")
KINDS = ("model", "robust")
NUTPIE = ("target_accept", "maxdepth", "adaptation", "mass_matrix_gamma", "mass_matrix_eigval_cutoff")
PYMC = ("target_accept", "max_treedepth", "init", "jitter_max_retries", "nuts_sampler_kwargs")
ADAPTATIONS = ("diag", "draw_diag", "low_rank")


@dataclass(frozen=True)
class Request:
    """How to sample.

    Parameters
    ----------
    draws, tune, chains : int
        Per plausible value.
    seed : int
    sampler : str
    options : dict
        Passed on to the sampler.
    progress : bool
    cores : int
    """

    draws: int
    tune: int
    chains: int
    seed: int
    sampler: str
    options: dict[str, Any]
    progress: bool
    cores: int

    @property
    def said(self) -> dict[str, Any]:
        """What a result keeps of it."""
        return {
            "draws": self.draws,
            "tune": self.tune,
            "chains": self.chains,
            "random_seed": self.seed,
            "sampler": self.sampler,
        }


def read_request(
    draws: Any, tune: Any, chains: Any, random_seed: Any, sampler: Any, progress: bool | None, vcov: str | None
) -> Request:
    """Check the arguments and put defaults in: 1000 draws after 1000 of tuning in 4 chains by nutpie.

    Raises
    ------
    OptionError, NotSupportedError
    """
    if vcov is not None and vcov not in KINDS:
        raise NotSupportedError(
            f"A posterior is corrected to the sandwich covariance or left as it is. Got vcov={vcov!r} with "
            f"method='bayes'. Use vcov='robust' or vcov='model', or leave vcov out."
        )
    name, options = _read_sampler(sampler)
    if random_seed is None:
        seed = secrets.randbelow(2**31)
    else:
        seed = _whole("random_seed", random_seed, 0)
    return Request(
        draws=_whole("draws", 1000 if draws is None else draws, 4),
        tune=_whole("tune", 1000 if tune is None else tune, 1),
        chains=_whole("chains", 4 if chains is None else chains, 1),
        seed=seed % 2**31,
        sampler=name,
        options=options,
        progress=is_wanted(progress),
        cores=os.cpu_count() or 1,
    )


def request_of(
    method: str, sampling: Mapping[str, Any], priors: Any, progress: bool | None, vcov: str | None
) -> Request | None:
    """Read what was asked of the sampler; None, and a refusal of its arguments, for other methods."""
    if method == "bayes":
        return read_request(**sampling, progress=progress, vcov=vcov)
    refuse_request(method, **sampling, priors=priors)
    return None


def refuse_request(method: str, **given: Any) -> None:
    """Refuse arguments of sampling where nothing is sampled.

    Raises
    ------
    OptionError
    """
    said = [name for name, value in given.items() if value is not None]
    if said:
        raise OptionError(
            f"The argument {said[0]} belongs to sampling. It was given with method={method!r}. Write method='bayes', "
            f"or leave it out."
        )


def _read_sampler(sampler: Any) -> tuple[str, dict[str, Any]]:
    options: dict[str, Any] = {}
    if isinstance(sampler, Mapping):
        options = {str(name): value for name, value in sampler.items()}
        sampler = options.pop("name", None)
    name = "nutpie" if sampler is None else sampler
    if not isinstance(name, str) or name not in SAMPLERS:
        raise OptionError(
            f"A sampler is a name, or a dict of options such as {{'target_accept': 0.95}}. There is no sampler "
            f"{name!r}.{near(str(name), SAMPLERS)} Use one of {', '.join(map(repr, SAMPLERS))}."
        )
    wrong = [key for key in options if key in OWN]
    if wrong:
        raise OptionError(
            f"Options of the sampler do not repeat arguments of fit. Got {wrong[0]!r} in sampler. Pass it to fit."
        )
    _check_options(name, options)
    return name, options


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse unknown options, which PyMC would not look at, and impossible values."""
    known = NUTPIE if name == "nutpie" else PYMC
    for key, value in options.items():
        if key not in known:
            raise OptionError(
                f"Unknown option of the sampler {name}. Got {key!r}.{near(key, known)} "
                f"Use one of {', '.join(map(repr, known))}."
            )
        if key in ("init", "jitter_max_retries", "nuts_sampler_kwargs"):
            continue
        if key == "adaptation":
            good, what = isinstance(value, str) and value in ADAPTATIONS, f"one of {', '.join(map(repr, ADAPTATIONS))}"
        elif key in ("maxdepth", "max_treedepth"):
            whole = isinstance(value, Integral) and not isinstance(value, bool)
            good, what = whole and 1 <= value <= 20, "a whole number from 1 to 20"
        elif key == "target_accept":
            good, what = _is_number(value) and 0 < value < 1, "a number between 0 and 1"
        else:
            good, what = _is_number(value) and 0 < value < float("inf"), "a positive number"
        if not good:
            raise OptionError(f"The option {key} of {name} is {what}. Got {value!r}. Change it, or leave it out.")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value == value


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise OptionError(
            f"The argument {name} is a whole number, {least} or more. Got {value!r}. Write for example {name}=1000."
        )
    return int(value)


__all__ = ["SAMPLERS", "Request", "read_request", "refuse_request"]
