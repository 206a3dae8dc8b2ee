"""What a survey's columns are: weights, strata, PSU, replicates, plausible values. Holds names, never data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from pmwmix._registry import Registry
from pmwmix.errors import OptionError, near, some

COUNTRY_WEIGHTS = ("equal", "population", "senate")
WEIGHTS_TOP = ("mean1", "sum")


class SurveyRegistry(Registry):
    """Presets by name; ``"PISA 2018"`` and ``"pisa_2018"`` find ``"pisa-2018"``."""

    def __missing__(self, name: object) -> Any:
        wanted = re.sub(r"[\W_]+", "-", str(name).strip().lower())
        wanted = re.sub(r"(?<=[a-z])(?=\d)", "-", wanted)
        if wanted in self:
            return self[wanted]
        study = [key for key in self if key.split("-")[0] == wanted.split("-")[0]]
        studies = sorted({re.sub(r"-\d.*", "", key) for key in self})
        listed = f"The study has {some(sorted(study), 9)}." if study else f"The studies are {some(studies, 20)}."
        hint = near(wanted, study or list(self))
        raise OptionError(
            f"Unknown {self.kind} {name!r}.{hint} {listed} Choose a name in the first column of pmwmix.surveys.table()."
        )


SURVEYS = SurveyRegistry("survey preset")
WeightSpec = str | Sequence[str | None] | Mapping[str, str] | None
PvSpec = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Design:
    """Frozen description of a survey's columns.

    Parameters
    ----------
    weights : str, list or dict, optional
        Weight columns, bottom-up or keyed by ``"obs"`` and group names.
    conditional : bool, optional
        Whether the weights are conditional already.
    scaling : str or callable, optional
        Default scaling.
    strata, psu : str, optional
        Columns of the strata and primary sampling units for the robust variance. The PSU defaults to the top level.
    fpc : str, optional
        Column of the finite population correction, constant inside strata: the sampled share of the PSUs (at most 1)
        or the number of PSUs in the population.
    lonely_psu : {"error", "certainty", "centre", "average"}, optional
        What a stratum with a single PSU adds to the robust variance: an error (default), nothing, its square about
        the mean over all PSUs, or the average of the other strata.
    replicate_weights : str or list of str, optional
        Template such as ``"W_FSTR{}"`` or columns.
    replicate_type : str, optional
        ``"fay"``, ``"jk2"``, ...
    fay : float, optional
        Fay's factor, 0.5 in PISA.
    zone, rep : str, optional
        Columns to make replicates from instead: jackknife zone and half (``"JKZONE"``, ``"JKREP"``), stratum and PSU.
    replicate_scale : float or list of float, optional
        Factor of the squared deviations where it is not that of ``replicate_type``.
    replicate_levels : {"constant", "mean"}, optional
        Which weights a replicate changes (docs/replicates.md): those of the highest units inside which its factor is
        constant (default), or those of every level, with the weighted mean of the factor in each unit.
    sampling_variance : {"average", "first"}, optional
        Replicate variance averaged over plausible values (default), or that of the first (TIMSS before 2015).
    pv : dict, optional
        Plausible-value sets, name to template or list of columns.
    ids : dict, optional
        Column of each kind of unit, ``{"school": "CNTSCHID"}``, so that formula and weights may say ``school``. Kinds
        are ``"class"``, ``"school"`` and ``"country"``.
    country_weights : {"equal", "population", "senate"}, optional
        How countries of one table count (docs/surveys.md): each as one draw, by its population, or with weights
        that sum to the same in every country. Default: the weights as they are.
    weights_top : {"mean1", "sum"}, optional
        Scale of the top level's weights: mean 1, or such that the total weights of the rows sum to their number (Mplus'
        ``BWTSCALE = SAMPLE``). Default: as given.
    trim : float or dict, optional
        Conditional weights above so many times the median of their level are cut off there; by level,
        ``{"school": 4.0}``, or one number for all levels with weights.

    Examples
    --------
    >>> Design(weights=["W_FSTUWT", "W_FSCHWT"], strata="STRATUM").strata
    'STRATUM'
    """

    weights: WeightSpec = None
    conditional: bool | None = None
    scaling: Any = None
    strata: str | None = None
    psu: str | None = None
    fpc: str | None = None
    lonely_psu: str | None = None
    replicate_weights: str | Sequence[str] | None = None
    replicate_type: str | None = None
    fay: float | None = None
    zone: str | None = None
    rep: str | None = None
    replicate_scale: float | Sequence[float] | None = None
    replicate_levels: str | None = None
    sampling_variance: str | None = None
    pv: PvSpec | None = None
    ids: Mapping[str, str] | None = None
    country_weights: str | None = None
    weights_top: str | None = None
    trim: float | Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name in ("strata", "psu", "fpc", "zone", "rep"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise OptionError(f"A design names one column as its {name}. Got {value!r}. Write {name}='COLUMN'.")
        if self.conditional not in (None, True, False):
            raise OptionError(
                f"Weights are conditional or not. Got conditional={self.conditional!r}. Write True or False."
            )
        if self.country_weights not in (None, *COUNTRY_WEIGHTS):
            raise OptionError(
                f"Unknown country weights {self.country_weights!r}.{near(str(self.country_weights), COUNTRY_WEIGHTS)} "
                f"Use one of {', '.join(map(repr, COUNTRY_WEIGHTS))}."
            )
        if self.weights_top not in (None, *WEIGHTS_TOP):
            raise OptionError(
                f"Unknown scale of the top level's weights. Got weights_top={self.weights_top!r}."
                f"{near(str(self.weights_top), WEIGHTS_TOP)} Use 'mean1' or 'sum', or leave it out."
            )
        _check_trim(self.trim)

    def __repr__(self) -> str:
        preset = next((name for name, one in SURVEYS.items() if one is self), None)
        if preset is not None:
            return f"pmwmix.surveys[{preset!r}]"
        said = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return f"pmwmix.Design({', '.join(f'{name}={value!r}' for name, value in said if value is not None)})"

    def override(self, **given: Any) -> Design:
        """Return a copy in which every argument that is not None replaces the design's own."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})


def _check_trim(trim: Any) -> None:
    """Refuse what is no number above 1, or no dict of them.

    Raises
    ------
    OptionError
    """
    values = list(trim.values()) if isinstance(trim, Mapping) else [trim]
    good = [isinstance(one, int | float) and not isinstance(one, bool) and 1.0 < one < float("inf") for one in values]
    if trim is not None and not (good and all(good)):
        raise OptionError(
            f"Weights are trimmed at a number above 1, so many times the median of their level. Got trim={trim!r}. "
            f"Write trim=4.0, or by level trim={{'school': 4.0}}."
        )


def resolve_design(design: object) -> Design:
    """Turn None, a preset name, a dict or a `Design` into a `Design`."""
    if design is None:
        return Design()
    if isinstance(design, Design):
        return design
    if isinstance(design, str):
        preset: Design = SURVEYS[design]
        return preset
    if isinstance(design, Mapping):
        known = [f.name for f in fields(Design)]
        wrong = [str(name) for name in design if name not in known]
        if wrong:
            raise OptionError(
                f"A design has no field {wrong[0]!r}.{near(wrong[0], known)} Its fields are {', '.join(known)}."
            )
        return Design(**design)
    raise OptionError(
        f"A design is a preset name or a Design. Got {type(design).__name__}. "
        f"Write design=pmwmix.Design(strata='STRATUM', psu='SCHOOLID')."
    )
