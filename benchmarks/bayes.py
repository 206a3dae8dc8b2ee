"""Time of the posterior by NUTS: seconds in a fresh process, effective sample sizes, divergences, agreement with ML.

    python benchmarks/bayes.py --json bayes.json

Every case runs in a process of its own with empty compilation caches. The case "nzl" needs the folder ``shared`` beside
the checkout and is left out without it.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from _harness import Children, Record, is_child, parser_of, peak_mib, read_columns, run_child, write_json

NZL = Path(__file__).parents[2] / "shared" / "data" / "pisa2012_nzl.csv.gz"
CASES: dict[str, Record] = {
    "nzl": {"what": "PISA 2012 New Zealand, random slope, 5 PVs, weights", "draws": 1000, "tune": 1000},
    "small": {
        "what": "150 schools x 17, random slope, 5 PVs, weights",
        "sizes": {"n_schools": 150, "n_students": 17, "n_pv": 5},
        "draws": 1000,
        "tune": 1000,
    },
    "world-1": {
        "what": "22,000 schools x 28, random slope, 1 PV, weights",
        "sizes": {"n_schools": 22_000, "n_students": 28, "n_pv": 1},
        "draws": 1000,
        "tune": 1000,
    },
    "world-10": {
        "what": "22,000 schools x 28, random slope, 10 PVs, weights",
        "sizes": {"n_schools": 22_000, "n_students": 28, "n_pv": 10},
        "draws": 1000,
        "tune": 1000,
    },
    "binomial": {
        "what": "56,000 rows, 2,000 groups, 7 nodes",
        "groups": 2000,
        "rows": 56_000,
        "draws": 500,
        "tune": 500,
    },
}


def main() -> None:
    """Run what the command line asks for and print it."""
    parser = parser_of(__doc__, CHILDREN)
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)} (default: all)")
    options = parser.parse_args()
    if is_child(options, CHILDREN):
        return
    names = [name for name in options.cases.split(",") if name != "nzl" or NZL.exists()]
    if unknown := set(names) - set(CASES):
        parser.error(f"unknown case {sorted(unknown)}; available: {', '.join(CASES)}")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores\n")
    print(
        f"{'case':58} {'s':>7} {'sample s':>9} {'min ESS':>8} {'R-hat':>6} {'div.':>5} {'|mean-ML|/SD':>13} "
        f"{'SD/SE':>12} {'MiB':>6}"
    )
    found = {}
    for name in names:
        row = found[name] = measure(name)
        ratio = f"{row['ratio'][0]:.3f}-{row['ratio'][1]:.3f}"
        print(
            f"{CASES[name]['what']:58} {row['seconds']:7.1f} {row['second_fit']:9.1f} {row['ess']:8.0f} "
            f"{row['r_hat']:6.3f} "
            f"{row['divergences']:5d} {row['shift']:13.3f} {ratio:>12} {row['peak_mib']:6.0f}",
            flush=True,
        )
    print(
        "\ns: import, data and first fit of a fresh process; sample s: the same fit again in that process; min ESS: "
        "smallest bulk effective sample size of any parameter within a plausible value; SD/SE: posterior standard "
        "deviations over "
        "robust (with weights) standard errors of the coefficients, smallest and largest."
    )
    write_json(options, found)


def measure(name: str) -> Record:
    """Make the data of a case, then fit it in another process."""
    with tempfile.TemporaryDirectory(prefix="pmwmix-bench-") as folder:
        spec = {"name": name, "path": str(Path(folder) / "data.npz")}
        run_child("make", spec)
        return run_child("fit", spec)


def make(spec: Record) -> Record:
    """Write the columns of a case and how it is called."""
    import numpy as np
    import pandas as pd

    name, case = spec["name"], CASES[spec["name"]]
    if name == "nzl":
        data = pd.read_csv(NZL)
        call = {
            "formula": "math ~ MATHEFF + ST04Q01 + (1 + MATHEFF | SCHOOLID)",
            "weights": ["W_FSTUWT", "W_FSCHWT"],
            "pv": {"math": "PV{}MATH"},
            "scaling": "size",
        }
        used = ["MATHEFF", "ST04Q01", "SCHOOLID", "W_FSTUWT", "W_FSCHWT", *(f"PV{k}MATH" for k in range(1, 6))]
        columns = {column: data[column].to_numpy() for column in used}
    elif name == "binomial":
        rng = np.random.default_rng(7)
        group = rng.integers(0, case["groups"], case["rows"])
        X = rng.normal(size=(4, case["rows"]))
        eta = -0.3 + np.array([0.5, 0.2, -0.4, 0.1]) @ X + rng.normal(size=case["groups"])[group]
        columns = {f"x{j}": x for j, x in enumerate(X, 1)} | {"group": group}
        columns["y"] = (rng.random(case["rows"]) < 1.0 / (1.0 + np.exp(-eta))).astype(int)
        call = {"formula": "y ~ x1 + x2 + x3 + x4 + (1 | group)", "family": "binomial", "n_agq": 7}
    else:
        from pmwmix.simulate import simulate_survey

        survey = simulate_survey(
            **case["sizes"], n_covariates=10, beta=[500.0, 30.0, -10.0, *[5.0] * 8], random_seed=2022
        )
        used = survey.data.drop(columns=["CNT", "STIDSTD"])
        columns = {column: used[column].to_numpy() for column in used}
        call = {"formula": survey.formula, "weights": survey.weights, "pv": survey.pv, "scaling": "size"}
    np.savez(spec["path"], **columns)
    Path(spec["path"]).with_suffix(".json").write_text(json.dumps(call), encoding="utf-8")
    return {}


def fit(spec: Record) -> Record:
    """Time the first fit of this process and a second one."""
    begin = time.perf_counter()
    import numpy as np

    import pmwmix

    name, case = spec["name"], CASES[spec["name"]]
    call = json.loads(Path(spec["path"]).with_suffix(".json").read_text(encoding="utf-8"))
    data = read_columns(spec["path"])
    formula = call.pop("formula")

    def sample(seed: int) -> Any:
        how = {"draws": case["draws"], "tune": case["tune"], "chains": 4, "random_seed": seed}
        return pmwmix.fit(formula, data, method="bayes", progress=False, **how, **call)

    result = sample(1)
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    if name != "world-10":
        sample(2)
    again = time.perf_counter() - begin
    peak = peak_mib()
    every = [diagnose(one) for one in result.fits]
    ratio = np.array([one.se / one.ml.se for one in result.fits])
    shift = np.array([(one.coef - one.ml.coef).abs() / one.se for one in result.fits])
    return {
        "seconds": seconds,
        "second_fit": again if name != "world-10" else float("nan"),
        "ess": min(one["ess"] for one in every),
        "r_hat": max(one["r_hat"] for one in every),
        "divergences": sum(one["divergences"] for one in every),
        "shift": float(shift.max()),
        "ratio": [float(ratio.min()), float(ratio.max())],
        "notes": list(result.diagnostics),
        "peak_mib": peak,
    }


def diagnose(one: Any) -> Record:
    """Give smallest bulk effective sample size, largest R-hat and number of divergences of one plausible value."""
    components = one.confint_varcorr()
    table = one.tidy()
    return {
        "ess": float(min(table["ess_bulk"].min(), components["ess_bulk"].min())),
        "r_hat": float(max(table["r_hat"].max(), components["r_hat"].max())),
        "divergences": int(one.idata["sample_stats"]["diverging"].sum()),
    }


CHILDREN: Children = {"make": make, "fit": fit}


if __name__ == "__main__":
    main()
