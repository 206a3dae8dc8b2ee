"""Damage saved fits in many ways and see how loading ends; `python tests/results/fuzz_files.py 2000` prints counts.

Three kinds: bytes that are flipped, cut or moved; fields that are swapped, dropped or changed without a new digest;
files that a stranger made on purpose, with a digest that fits. The first two must end in an error of the package or in
an equal fit, the third in an error of the package or in answers: no code of the file may run.
"""

import copy
import io
import json
import sys
import time
import tracemalloc
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

import pmwmix
from pmwmix.results.archive import digest_of

PAYLOADS = (
    "__import__('pathlib').Path({mark!r}).touch()",
    "{{__import__('os').system('touch {mark}')}}",
    "y ~ I(__import__('os').system('touch {mark}')) + (1 | g)",
    "y ~ x + ().__class__.__base__.__subclasses__() + (1 | g)",
    "1 + np.lib.npyio.load('{mark}')",
    "x + `x` if __import__('os').system('touch {mark}') else 0",
    "<script>alert(1)</script>",
    "\x00\ud800",
)
VALUES = (
    None,
    True,
    -1,
    0,
    10**18,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    [],
    [[]],
    {},
    [None] * 3,
    [1.5],
)
DATA = pd.DataFrame(
    {"x": [0.1, 0.4, -1.0], "z": [2.0, 0.5, 1.0], "f": ["a", "b", "a"], "g": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 2.0]}
)


class Damage:
    """One saved fit and the ways to damage it.

    Parameters
    ----------
    content : bytes
    rng : numpy.random.Generator
    mark : Path
        File that code inside a saved fit would create.
    """

    def __init__(self, content: bytes, rng, mark: Path) -> None:
        self.content, self.rng, self.mark = content, rng, mark
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            self.arrays = {name: archive[name] for name in archive.files}

    # -- bytes

    def flipped(self) -> bytes:
        out = bytearray(self.content)
        for place in self.rng.integers(0, len(out), self.rng.integers(1, 9)):
            out[place] ^= 1 << self.rng.integers(8)
        return bytes(out)

    def truncated(self) -> bytes:
        return self.content[: self.rng.integers(0, len(self.content))]

    def cut(self) -> bytes:
        first, last = sorted(self.rng.integers(0, len(self.content), 2))
        return self.content[:first] + self.content[last:]

    def zeroed(self) -> bytes:
        first, last = sorted(self.rng.integers(0, len(self.content), 2))
        return self.content[:first] + bytes(last - first) + self.content[last:]

    def moved(self) -> bytes:
        a, b, c = sorted(self.rng.integers(0, len(self.content), 3))
        return self.content[:a] + self.content[b:c] + self.content[a:b] + self.content[c:]

    def noise(self) -> bytes:
        return self.rng.bytes(self.rng.integers(0, 4000))

    # -- fields

    def swapped(self) -> bytes:
        one, other = self.rng.choice(sorted(set(self.arrays) - {"digest", "meta"}), 2, replace=False)
        return self.packed({**self.arrays, one: self.arrays[other], other: self.arrays[one]}, sign=False)

    def dropped(self, sign: bool = False) -> bytes:
        name = self.rng.choice(sorted(set(self.arrays) - {"digest"}))
        return self.packed({k: v for k, v in self.arrays.items() if k != name}, sign)

    def retyped(self, sign: bool = False) -> bytes:
        name = self.rng.choice(sorted(set(self.arrays) - {"digest", "meta"}))
        kind = self.rng.choice(["f2", "i1", "u8", "?", "U3", "S4", "c8", ">f8", "M8[s]", "O"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = np.zeros(self.arrays[name].shape, dtype=kind) if kind in ("M8[s]", "O") else (
                self.arrays[name].astype(kind)
            )  # fmt: skip
        return self.packed({**self.arrays, name: array}, sign)

    def reshaped(self, sign: bool = False) -> bytes:
        name = self.rng.choice(sorted(set(self.arrays) - {"digest", "meta"}))
        array = self.arrays[name]
        choices = [array[..., None], array.ravel()[:-1], np.concatenate([array.ravel()] * 2), array.T, np.zeros(0)]
        return self.packed({**self.arrays, name: choices[self.rng.integers(len(choices))]}, sign)

    def scaled(self, sign: bool = False) -> bytes:
        name = self.rng.choice(sorted(k for k, v in self.arrays.items() if v.dtype.kind == "f" and v.size))
        factor = self.rng.choice([1 + 1e-12, -1, 0, np.nan, np.inf, 1e300])
        with np.errstate(all="ignore"):
            return self.packed({**self.arrays, name: self.arrays[name] * factor}, sign)

    def other_field(self, sign: bool = False) -> bytes:
        """Put another value in the place of one value of the JSON."""
        meta = json.loads(str(self.arrays["meta"]))
        where = self.leaf(meta)
        value = VALUES[self.rng.integers(len(VALUES))]
        put(meta, where, value)
        return self.with_meta(meta, sign)

    # -- what a stranger would make

    def payload(self) -> bytes:
        """Put code in the place of a text of the JSON, keys among them."""
        meta = json.loads(str(self.arrays["meta"]))
        text = PAYLOADS[self.rng.integers(len(PAYLOADS))].format(mark=str(self.mark))
        where = self.leaf(meta, str)
        if self.rng.random() < 0.3 and isinstance(get(meta, where[:-1]), dict):
            owner = get(meta, where[:-1])
            owner[text] = owner.pop(where[-1])
        else:
            put(meta, where, text)
        return self.with_meta(meta, sign=True)

    def payload_in_formulas(self) -> bytes:
        """Put code in every place where a formula stands."""
        meta = json.loads(str(self.arrays["meta"]))
        text = PAYLOADS[self.rng.integers(len(PAYLOADS))].format(mark=str(self.mark))
        rows = meta["fit"].get("rows") or meta["fit"]["each"][0]["rows"]
        rows["x"]["formula"] = text
        if self.rng.random() < 0.5:
            rows["formula"] = text if "~" in text else f"y ~ {text} + (1 | g)"
        if self.rng.random() < 0.5:
            rows["x"]["state"] = {"dict": [[text, {"dict": [["center", text]]}]]}
        return self.with_meta(meta, sign=True)

    def deep(self) -> bytes:
        meta = json.loads(str(self.arrays["meta"]))
        put(meta, self.leaf(meta), "@")
        text = json.dumps(meta).replace('"@"', "[" * 100_000 + "]" * 100_000)
        return self.packed({**self.arrays, "meta": np.array(text)}, sign=True)

    def huge(self) -> bytes:
        """Promise arrays larger than any memory: in the header, or in the directory of the zip."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in self.arrays.items():
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
                data = buffer.getvalue()
                if name == "fit/coef":
                    header = {"descr": "<f8", "fortran_order": False, "shape": (int(self.rng.integers(10**9, 10**15)),)}
                    buffer = io.BytesIO()
                    np.lib.format.write_array_header_1_0(buffer, header)
                    data = buffer.getvalue()
                archive.writestr(f"{name}.npy", data)
        return out.getvalue()

    def bomb(self) -> bytes:
        """Unfold to a gigabyte and more."""
        out = io.BytesIO(self.content)
        with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("more.npy", "w") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": (1_200_000_000,)}
            )
            for _ in range(1200):
                file.write(bytes(1_000_000))
        return out.getvalue()

    def later(self) -> bytes:
        meta = json.loads(str(self.arrays["meta"]))
        meta["format"] = [4, 17, 10**30, "3", 2.5, None, True][self.rng.integers(7)]
        return self.with_meta(meta, sign=True)

    def leaf(self, meta, kind=object):
        every = [path for path in paths(meta) if path and path[0] != "format" and isinstance(get(meta, path), kind)]
        return every[self.rng.integers(len(every))]

    def with_meta(self, meta, sign: bool) -> bytes:
        text = json.dumps(meta)
        return self.packed({**self.arrays, "meta": np.array(text)}, sign)

    def packed(self, arrays, sign: bool) -> bytes:
        arrays = {name: np.asarray(value) for name, value in arrays.items()}
        if sign:
            rest = {name: value for name, value in arrays.items() if name != "digest"}
            arrays["digest"] = np.array(digest_of(rest))
        out = io.BytesIO()
        np.savez_compressed(out, allow_pickle=True, **arrays)
        return out.getvalue()


BYTES = ("flipped", "truncated", "cut", "zeroed", "moved", "noise")
FIELDS = ("swapped", "dropped", "retyped", "reshaped", "scaled", "other_field")
STRANGER = ("payload", "payload_in_formulas", "deep", "huge", "later")
SIGNED = ("dropped", "retyped", "reshaped", "scaled", "other_field")


def paths(value, here=()):
    """Yield the places of all values in nested lists and dicts."""
    yield here
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield from paths(one, (*here, key))


def get(value, path):
    for key in path:
        value = value[key]
    return value


def put(value, path, new):
    get(value, path[:-1])[path[-1]] = copy.deepcopy(new)


def answers(fit) -> list[object]:
    """Ask everything that a loaded fit answers; what it refuses in words is an answer too."""
    asked = [
        lambda: str(fit.summary()),
        lambda: fit.summary().to_html(),
        lambda: fit.tidy().to_numpy().tolist(),
        lambda: fit.varcorr.to_numpy().tolist(),
        lambda: fit.confint().to_numpy().tolist(),
        lambda: str(fit.ranef()),
        lambda: np.asarray(fit.fitted()).tolist(),
        lambda: np.asarray(fit.residuals()).tolist(),
        lambda: np.asarray(fit.predict(DATA)).tolist(),
        lambda: str(fit.r2()),
        lambda: str(fit.wald(list(fit.coef.index)[1:2])),
        lambda: str(fit.icc),
        lambda: str(fit.residual_table()),
        lambda: np.asarray(fit.residuals("normalized")).tolist(),
        lambda: fit.formula,
    ]
    out = []
    for ask in asked:
        try:
            out.append(ask())
        except pmwmix.PmwmixError as error:
            out.append(str(error))
    return out


def run(content: bytes, path: Path, want: list[object], mark: Path, equal: bool) -> str:
    """Load a damaged file and say how it ended: refused, equal, answered, WRONG, CRASHED or RAN CODE."""
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = pmwmix.load(path)
            found = answers(fit)
        out = "equal" if repr(found) == repr(want) else "WRONG" if equal else "answered"
    except pmwmix.PmwmixError as error:
        out = "refused" if str(error).count(". ") >= 2 else f"CRASHED without three sentences: {error}"
    except BaseException as error:
        out = f"CRASHED {type(error).__name__}: {error}"[:300]
    return "RAN CODE" if mark.exists() else out


def models():
    """Fits whose files hold every field that a fit writes."""
    rng = np.random.default_rng(0)
    n = 240
    d = pd.DataFrame(
        {
            "x": rng.normal(size=n), "z": rng.normal(size=n), "f": rng.choice(list("abc"), n),
            "g": np.repeat(np.arange(24), 10), "w": rng.uniform(1, 3, n),
        }
    )  # fmt: skip
    u = rng.normal(size=24)[d["g"]]
    for k in range(1, 4):
        d[f"pv{k}"] = 1 + 0.5 * d["x"] + u + rng.normal(size=n)
    d["y"] = d["pv1"]
    d["b"] = (d["y"] > 1) * 1.0
    d["c"] = np.where(rng.random(n) < 0.3, 0.0, rng.poisson(np.exp(d["y"] / 2)))
    return {
        "residual": pmwmix.fit(
            "y ~ x", d, residual={"correlation": "car1", "time": "x", "group": "g", "variance": "ident(f)"}
        ),
        "outcomes": pmwmix.fit(["y ~ x + f + (1 | p | g)", "pv2 ~ x + (1 | p | g)"], d),
        "kinds": pmwmix.fit(
            ["y ~ x + (1 | p | g)", "b ~ x + (1 | p | g)"], d, family=["gaussian", "binomial"], n_agq=1
        ),
        "linear": pmwmix.fit("y ~ poly(x, 2) + f + scale(z) + (x | g)", d),
        "pv": pmwmix.fit("m ~ x + f + (1 | g)", d, pv={"m": "pv{}"}, weights=["w"], center={"x": "g+mean"}),
        "zeros": pmwmix.fit(
            ["c ~ x + f + (1 | p | g)", "zi ~ x + (1 | p | g)"], d, family="zero-inflated-poisson", n_agq=1
        ),
        "logit": pmwmix.fit("b ~ x + f + (1 | g)", d, family="binomial", n_agq=3),
    }


def fuzz(n: int, seed: int, folder: Path) -> tuple[Counter, list[str]]:
    """Damage each fit ``n`` times; counts by kind of damage and end, and what must not happen."""
    rng = np.random.default_rng(seed)
    counts: Counter = Counter()
    bad = []
    path, mark = folder / "fit.npz", folder / "code-ran"
    for name, fit in models().items():
        content = fit.save(folder / "whole.npz").read_bytes()
        want = answers(pmwmix.load(folder / "whole.npz"))
        damage = Damage(content, rng, mark)
        ways = [("bytes", way, {}) for way in BYTES] + [("fields", way, {}) for way in FIELDS]
        ways += [("stranger", way, {}) for way in STRANGER] + [("stranger", way, {"sign": True}) for way in SIGNED]
        for k in range(n):
            kind, way, options = ways[k % len(ways)]
            made = getattr(damage, way)(**options)
            end = run(made, path, want, mark, kind != "stranger")
            counts[kind, end.split(" ")[0]] += 1
            if end.split(" ")[0] not in ("refused", "equal", "answered"):
                bad.append(f"{name} {way} {k}: {end}")
                mark.unlink(missing_ok=True)
    return counts, bad


def main() -> None:
    import tempfile

    n = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    start = time.perf_counter()
    tracemalloc.start()
    with tempfile.TemporaryDirectory() as folder:
        counts, bad = fuzz(n, 1, Path(folder))
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    for (kind, end), number in sorted(counts.items()):
        print(f"{kind:10} {end:10} {number:6}")
    print(f"{sum(counts.values())} files, {len(bad)} bad, {time.perf_counter() - start:.0f} s, {peak:.0f} MiB at most")
    print("\n".join(bad[:40]))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
