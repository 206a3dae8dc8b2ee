"""Fourteen models of fourteen shapes, each fitted once with its summary as text, all in one fresh process; lme4 beside.

    python benchmarks/first_fits.py --data ../shared/data

The whole process counts, start and imports included, with empty caches; then once more in a second process. ``--data``
is a folder of the files that the models name, compressed CSV; ``--cpu`` counts processor seconds of all threads.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from _harness import (
    Record,
    has_r,
    is_child,
    machine,
    of_processor,
    parser_of,
    peak_mib,
    print_table,
    run_child,
    timed,
    write_json,
)

MODELS = [  # file, formula, options
    ("hsb82", "mathach ~ 1 + (1 | school)", {"method": "reml"}),
    ("hsb82", "mathach ~ cses + (1 | school)", {"method": "reml"}),
    ("hsb82", "mathach ~ cses + (cses | school)", {"method": "reml"}),
    ("hsb82", "mathach ~ meanses * cses + sector * cses + (cses | school)", {"method": "ml"}),
    ("classroom", "mathgain ~ ses + mathknow + (1 | schoolid/classid)", {"method": "reml"}),
    ("classroom", "mathkind ~ ses + (ses | schoolid)", {"method": "reml"}),
    ("egsingle", "math ~ year + (year | schoolid/childid)", {"method": "reml"}),
    ("exam", "normexam ~ standLRT + sex + schgend + (standLRT | school)", {"method": "ml"}),
    ("sleepstudy", "Reaction ~ Days + (Days || Subject)", {"method": "reml"}),
    ("scotssec", "attain ~ sex + (1 | primary) + (1 | second)", {"method": "reml"}),
    ("contraception", "use ~ age + urban + (1 | district)", {"family": "binomial", "n_agq": 1}),
    ("contraception", "use ~ age + urban + (urban | district)", {"family": "binomial", "n_agq": 1}),
    ("guimmun", "immun ~ kid2p + rural + (1 | comm/mom)", {"family": "binomial", "n_agq": 1}),
    (
        "owls",
        "SiblingNegotiation ~ FoodTreatment + ArrivalTime + (1 | Nest)",
        {"family": "poisson", "n_agq": 1},
    ),
]


def fit_all(spec: Record) -> Record:
    """Fit the models one after the other."""
    import pandas as pd

    import pmwmix

    done = []
    for name, formula, options in MODELS:
        data = pd.read_csv(Path(spec["data"]) / f"{name}.csv.gz")
        seconds, fit = timed(lambda data=data, formula=formula, options=options: pmwmix.fit(formula, data, **options))
        shown, text = timed(lambda fit=fit: str(fit.summary()))
        done.append({"seconds": seconds + shown, "loglik": fit.loglik, "lines": text.count("\n")})
    return {"models": done, "peak_mib": peak_mib()}


def fit_one(spec: Record) -> Record:
    """Fit one model as the first of its process, after imports, and again."""
    import pandas as pd

    import pmwmix

    name, formula, options = MODELS[spec["number"]]
    data = pd.read_csv(Path(spec["data"]) / f"{name}.csv.gz")
    clock = of_processor if spec["cpu"] else timed
    first, _ = clock(lambda: pmwmix.fit(formula, data, **options))
    later = min(clock(lambda: pmwmix.fit(formula, data, **options))[0] for _ in range(3))
    return {"first": first, "later": later, "peak_mib": peak_mib()}


CHILDREN = {"all": fit_all, "one": fit_one}


def main() -> None:
    """Run what the command line asks for and print it."""
    parser = parser_of(__doc__, CHILDREN)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data")
    parser.add_argument("--cpu", action="store_true", help="processor seconds of all threads")
    parser.add_argument("--no-r", action="store_true", help="leave lme4 out")
    options = parser.parse_args()
    if is_child(options, CHILDREN):
        return
    spec = {"data": str(options.data.resolve()), "cpu": options.cpu}
    clock = of_processor if options.cpu else timed
    whole = [clock(lambda: run_child("all", spec)) for _ in range(2)]
    beside = lme4(spec["data"], clock) if has_r() and not options.no_r else None
    single = [run_child("one", {**spec, "number": number}) for number in range(len(MODELS))]
    rows = []
    for number, (name, formula, _) in enumerate(MODELS):
        one, in_row = single[number], whole[0][1]["models"][number]
        rows.append([f"{name}: {formula}", *(f"{x:.2f}" for x in (one["first"], one["later"], in_row["seconds"]))])
    print_table(["model", "first fit", "later fit", "in the row"], rows)
    print(
        f"\nWhole process: {whole[0][0]:.2f} s, a second one {whole[1][0]:.2f} s; lme4 {beside or float('nan'):.2f} s."
    )
    print(f"Peak of a first fit (HSB, random slope): {single[2]['peak_mib']:.0f} MiB, of all fourteen "
          f"{whole[0][1]['peak_mib']:.0f} MiB. {machine()}")  # fmt: skip
    write_json(options, {"whole": whole, "single": single, "lme4": beside, "machine": machine()})


def lme4(data: str, clock: Any) -> float | None:
    """Whole process of R with the same models."""
    script = Path(sys.argv[0]).with_suffix(".R")
    call = ["Rscript", str(script), data]
    seconds, done = clock(lambda: subprocess.run(call, capture_output=True, text=True, check=False))
    if done.returncode:
        print(f"lme4 could not be timed: {done.stderr.strip()[-500:]}", file=sys.stderr)
        return None
    return float(seconds)


if __name__ == "__main__":
    main()
