"""How formulaic rebuilds columns from new data, as JSON: states of transformations and categories, never its own code.

The formula itself is not taken from there: it is the model's, which `spec.formula` has checked piece by piece.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from formulaic import ModelSpec
from formulaic.parser.types import Factor

from pmwmix.results.checked import AlteredError, as_label, as_object, listed, mapped


def spec_out(spec: ModelSpec | None) -> Any:
    """Spell the state of the transformations and the categories."""
    if spec is None:
        return None
    categories = {
        name: [_plain(one) for one in state["categories"]]
        for name, (_, state) in spec.encoder_state.items()
        if "categories" in state
    }
    return {"state": _tagged(spec.transform_state), "categories": categories}


def spec_in(meta: Any, formula: str) -> ModelSpec:
    """Build a specification of a formula that was checked.

    Raises
    ------
    AlteredError
    """
    found = as_object(meta)
    if not {"state", "categories"} <= found.keys():
        raise AlteredError("a specification without state or categories")
    categories = mapped(listed(as_label))(
        {k: v["list"] if isinstance(v, dict) and "list" in v else v for k, v in as_object(found["categories"]).items()}
    )
    encoders = {name: (Factor.Kind.CATEGORICAL, {"categories": values}) for name, values in categories.items()}
    state = _untagged(found["state"])
    if not isinstance(state, dict) or not all(isinstance(one, dict) for one in state.values()):
        raise AlteredError("a state of transformations that is none")
    return ModelSpec(formula=formula, transform_state=state, encoder_state=encoders, output="numpy", na_action="ignore")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _tagged(value: Any) -> Any:
    """Spell nested dicts, arrays and numbers in JSON without losing the types of keys."""
    if isinstance(value, dict):
        return {"dict": [[_tagged(k), _tagged(v)] for k, v in value.items()]}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist()}
    if isinstance(value, list | tuple):
        return {"list": [_tagged(v) for v in value]}
    return _plain(value)


def _untagged(value: Any) -> Any:
    """Read them back: numbers, texts, flags, lists, numeric arrays and dicts of these, and nothing else."""
    if not isinstance(value, dict):
        return None if value is None else as_label(value)
    if value.keys() == {"dict"}:
        pairs = listed(listed(lambda one: one, 2))(value["dict"])
        return {as_label(_untagged(k)): _untagged(v) for k, v in pairs}
    if value.keys() == {"array"}:
        try:
            array = np.array(value["array"], dtype=float)
        except (TypeError, ValueError) as error:
            raise AlteredError("an array that holds other than numbers") from error
        return array
    if value.keys() == {"list"}:
        return listed(_untagged)(value["list"])
    raise AlteredError(f"a state with the fields {sorted(value)}")
