"""Where JAX puts data and evaluates: the CPU or a GPU that was asked for by name, else where it does by itself."""

from __future__ import annotations

from typing import Any

from pmwmix.errors import NotSupportedError, OptionError, PmwmixError

DEVICES = ("cpu", "gpu")
ON = " on "  # between engine and device: one text, which goes wherever the engine goes, to other processes too


def placed(engine: str, device: str | None, method: str = "ml") -> str:
    """Give the engine with the device that was asked for, ``"jax on gpu"``.

    Parameters
    ----------
    engine : str
        Name in `ENGINES`.
    device : {"cpu", "gpu"}, optional
    method : str
        Of `pmwmix.fit`.

    Raises
    ------
    OptionError
        If it is no device, the engine is not JAX, or JAX finds no such device.
    """
    if device is None:
        return engine
    if device not in DEVICES:
        raise OptionError(f"A device is the CPU or a GPU. Got device={device!r}. Use 'cpu' or 'gpu', or leave it out.")
    if engine not in ("auto", "jax"):
        raise OptionError(
            f"JAX puts data on devices, other engines know none. Got device={device!r} with engine={engine!r}. Leave "
            f"one of the two out, or the environment's PMWMIX_ENGINE."
        )
    if method == "bayes":
        raise NotSupportedError(
            f"Posteriors are sampled where their sampler puts them. Got device={device!r} with method='bayes'. Leave "
            f"device out."
        )
    first_device(device)
    return f"jax{ON}{device}"


def split(engine: str) -> tuple[str, str | None]:
    """Take engine and device apart; the device is None where none was asked for."""
    name, _, device = engine.partition(ON)
    return name, device or None


def first_device(device: str) -> Any:
    """Give JAX's first device of a kind.

    Raises
    ------
    OptionError
        If JAX finds none.
    """
    import jax

    try:
        return jax.devices(device)[0]
    except RuntimeError as error:
        found = ", ".join(sorted({one.platform for one in jax.devices()}))
        raise OptionError(
            f"JAX finds no {device.upper()}. Asked for device={device!r}; there is: {found}. Leave device out, or "
            f"install the JAX of that device: pip install 'jax[cuda13]'."
        ) from error


def check_placed(is_compiled: bool, engine: str) -> None:
    """Refuse a device for a likelihood that compiled code does not evaluate: it would be left aside in silence.

    Raises
    ------
    NotSupportedError
    """
    device = split(engine)[1]
    if device is not None and not is_compiled:
        raise NotSupportedError(
            f"Devices are for likelihoods that JAX evaluates. That of this model is evaluated in numpy, and device="
            f"{device!r} would change nothing. Leave device out."
        )


def too_large(error: Exception, device: str | None) -> PmwmixError | None:
    """Say in words that a device has no memory left; None of other errors."""
    if device is None or "RESOURCE_EXHAUSTED" not in str(error):
        return None
    return NotSupportedError(
        f"The data do not fit into the memory of the device. With device={device!r} JAX ran out of it. Leave device "
        f"out, or lower chunk_size; read the data in pieces with memory=."
    )
