"""Name -> implementation tables; one entry per scaling, family, link, survey or variance."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from pmwmix.errors import OptionError, near


class Registry(dict[str, Any]):
    """Map from a public name (``"size"``) to the object that implements it.

    Parameters
    ----------
    kind : str
        What the entries are, for messages: ``"scaling"``.

    Examples
    --------
    >>> greetings = Registry("greeting")
    >>> _ = greetings.add("hello", print)
    >>> greetings["helo"]
    Traceback (most recent call last):
    pmwmix.errors.OptionError: Unknown greeting 'helo'. Did you mean 'hello'? Available: 'hello'.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, name: str, obj: Any) -> Any:
        """Register ``obj`` under ``name`` and return it; a name can be taken only once."""
        if name in self:
            raise OptionError(
                f"The {self.kind} {name!r} is already registered. It belongs to {self[name]!r}. Choose another name."
            )
        self[name] = obj
        return obj

    def __missing__(self, name: object) -> Any:
        listed = ", ".join(repr(key) for key in sorted(self))
        raise OptionError(f"Unknown {self.kind} {name!r}.{near(str(name), list(self))} Available: {listed}.")


def discover(package: ModuleType) -> None:
    """Import every sibling module, in sorted order, so that each registers itself."""
    for name in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{name}")
