"""Fits saved by version 0.1.0 are read and say what they said then."""

import importlib.util
import json
from pathlib import Path

import pytest
from helpers import close

import pmwmix

FOLDER = Path(__file__).parent / "saved_0_1_0"
spec = importlib.util.spec_from_file_location("made_by_0_1_0", FOLDER / "make.py")
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)
FILES = sorted([*FOLDER.glob("*.npz"), *FOLDER.glob("*.nc")])


def same(got, expected, place=""):
    """Compare dicts, lists, texts and numbers as JSON has them."""
    if isinstance(expected, dict):
        assert list(got) == list(expected), place
        for name, value in expected.items():
            same(got[name], value, f"{place}/{name}")
    elif isinstance(expected, list):
        assert len(got) == len(expected), place
        for number, value in enumerate(expected):
            same(got[number], value, f"{place}/{number}")
    elif expected is None or isinstance(expected, str):
        assert got == expected, place
    else:
        close(got, expected, rtol=1e-10, atol=1e-12)


def facts_of(fit):
    found = made.posterior_facts(fit) if fit.method == "bayes" else made.facts(fit)
    return settled(json.loads(json.dumps(found, default=float)))


def settled(facts):
    """Leave out what later versions lay out or define otherwise.

    Of a summary its words above the tables are compared, whose layout changed; not the ends of intervals of variances
    below their standard errors, which were two-sided in 0.1.0 and reached up to 1e14.
    """
    head = facts["summary"].partition("Groups and weights")[0]
    table, varcorr = facts["components"], facts["varcorr"]
    far = [s is not None and v < s and other is None for v, s, other in
           zip(varcorr["vcov"], varcorr["se"], varcorr["var2"], strict=True)]  # fmt: skip
    ends = {
        end: [None if near else value for value, near in zip(table[end], far, strict=True)]
        for end in (("ci_low", "ci_high") if "r_hat" not in table else ())
    }
    return facts | {"summary": head.split(), "components": table | ends}


def test_every_kind_of_fit_is_there():
    assert {path.stem for path in FILES} == {path.stem for path in FOLDER.glob("*.json")}
    assert len(FILES) == 12 and sum(path.stat().st_size for path in FILES) < 500_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_saved_fits_of_the_first_version_say_what_they_said(path, tmp_path):
    expected = settled(json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
    fit = pmwmix.load(path)
    same(facts_of(fit), expected)
    again = pmwmix.load(fit.save(tmp_path / path.name))
    same(facts_of(again), expected)
