"""What a user waits for: calls one after the other in a fresh process, on PISA 2012 and a simulated survey.

    python benchmarks/expected.py

Seconds of the clock and of the processor, all threads together; the first call of a kind includes imports, and
compiling where something is compiled.
"""

from __future__ import annotations

import time
from typing import Any

from _harness import Children, Record, is_child, machine, parser_of, run_child, write_json

MODEL = "math ~ ST04Q01 + MATHEFF + PCGIRLS + (1 + MATHEFF | SCHOOLID)"


def main() -> None:
    """Print a row of a Markdown table per call."""
    options = parser_of(__doc__, CHILDREN).parse_args()
    if is_child(options, CHILDREN):
        return
    found = run_child("calls", {})
    lines = ["| call | seconds | processor |", "|---|---|---|"]
    lines += [f"| {row['call']} | {row['wall']:.2g} | {row['cpu']:.2g} |" for row in found["rows"]]
    print("\n".join(lines))
    write_json(options, {"machine": machine(), **found})


def calls(_: Record) -> Record:
    """Time the calls in the order in which a user makes them."""
    rows: list[Record] = []

    def take(call: str, run: Any) -> Any:
        start = time.perf_counter(), time.process_time()
        value = run()
        rows.append({"call": call, "wall": time.perf_counter() - start[0], "cpu": time.process_time() - start[1]})
        return value

    import pmwmix

    data = take("`pmwmix.datasets.pisa2012_nzl()`, which imports pandas", lambda: pmwmix.datasets.pisa2012_nzl())
    given: dict[str, Any] = {"weights": ["W_FSTUWT", "W_FSCHWT"], "scaling": "size", "pv": {"math": "PV{}MATH"}}
    take("first linear fit, random slope, 5 plausible values", lambda: pmwmix.fit(MODEL, data, **given))
    fit = take("the same again", lambda: pmwmix.fit(MODEL, data, **given))
    take("its `summary()` as text", lambda: str(fit.summary()))
    take("`ame()`", fit.ame)
    take("`pmwmix.table` of two fits", lambda: str(pmwmix.table([fit, fit])))
    take("`pmwmix.sensitivity(fit)`", lambda: pmwmix.sensitivity(fit))
    take("`pmwmix.influence(fit)`, 157 schools", lambda: pmwmix.influence(fit))
    take("`fit.report()` as a page with its picture", lambda: fit.report().to_html())
    take("`fit.bootstrap(200)` of schools", lambda: fit.bootstrap(200, random_seed=1, progress=False))
    binary = "(math >= 482) ~ ST04Q01 + (1 | SCHOOLID)"
    take("first logistic fit, 5 plausible values", lambda: pmwmix.fit(binary, data, family="binomial", **given))
    take("the same again", lambda: pmwmix.fit(binary, data, family="binomial", **given))
    take("posterior, 5 plausible values, 4 × 1000 draws each", lambda: _posterior(pmwmix, data, given))
    survey = pmwmix.simulate_survey(3_000, 20, n_pv=10, random_seed=1)
    large = {"weights": survey.weights, "scaling": "size", "pv": survey.pv}
    take("60,000 students, 10 plausible values, random slope", lambda: pmwmix.fit(survey.formula, survey.data, **large))
    return {"rows": rows}


def _posterior(pmwmix: Any, data: Any, given: dict[str, Any]) -> Any:
    return pmwmix.fit(MODEL, data, method="bayes", random_seed=1, progress=False, **given)


CHILDREN: Children = {"calls": calls}

if __name__ == "__main__":
    main()
