"""Saved fits: whole or not at all, equal or refused, and no code of theirs runs."""

import json
import pickle
import resource
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import fuzz_files
import numpy as np
import pandas as pd
import pytest

import pmwmix
from pmwmix.errors import DataError, FileError, OptionError, PmwmixError
from pmwmix.results.archive import digest_of
from pmwmix.writing import replacing


@pytest.fixture(scope="module")
def fits():
    return fuzz_files.models()


@pytest.fixture(scope="module")
def linear(fits):
    return fits["linear"]


def written(path, arrays):
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def altered(fit, path, change, sign=True):
    """Write a fit whose JSON was changed, with a digest that fits."""
    fit.save(path)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "digest"}
    meta = json.loads(str(arrays["meta"]))
    change(meta)
    arrays["meta"] = np.array(json.dumps(meta))
    return written(path, {**arrays, "digest": np.array(digest_of(arrays) if sign else "")})


# -- what a stranger sends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["x", "random", "formula", "settings", "state"])
def test_no_code_of_a_file_runs(linear, tmp_path, place):
    mark = tmp_path / "ran"
    code = f"I(__import__('pathlib').Path({str(mark)!r}).touch())"

    def change(meta):
        rows = meta["fit"]["rows"]
        if place == "x":
            rows["x"]["formula"] = f"0 + 1 + x + {code}"
        elif place == "random":
            rows["random"][0][3]["formula"] = f"0 + 1 + {code}"
        elif place == "formula":
            rows["formula"] = f"y ~ x + {code} + (x | g)"
        elif place == "settings":
            meta["fit"]["settings"]["formula"] = f"y ~ {code} + (x | g)"
        else:
            rows["x"]["state"] = {"dict": [[code, {"dict": [["center", code]]}]]}

    path = altered(linear, tmp_path / "fit.npz", change)
    try:
        pmwmix.load(path).predict(fuzz_files.DATA)
    except PmwmixError:
        assert place in ("formula", "settings")
    assert not mark.exists()


def test_a_formula_of_a_file_that_is_not_allowed_is_named(linear, tmp_path):
    def change(meta):
        meta["fit"]["rows"]["formula"] = "y ~ exec('import os') + (1 | g)"

    with pytest.raises(DataError, match=r"damaged\. In 'f\.npz': a formula that is not allowed .*exec"):
        pmwmix.load(altered(linear, tmp_path / "f.npz", change))


def test_pickles_are_not_read(linear, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    path = linear.save(tmp_path / "fit.npz")
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["fit/coef"] = np.array([Trap(), Trap()], dtype=object)
    written(path, arrays)
    with pytest.raises(DataError, match="not a saved fit"):
        pmwmix.load(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="not a saved fit"):
        pmwmix.load(path)
    assert not (tmp_path / "ran").exists()


def test_damaged_files_end_in_words_or_in_an_equal_fit(tmp_path):
    counts, bad = fuzz_files.fuzz(44, 3, tmp_path)
    assert not bad and sum(counts.values()) == 44 * len(fuzz_files.models()) and counts["bytes", "refused"] > 30, (
        counts,
        bad,
    )


def test_every_field_is_checked(linear, tmp_path):
    path, mark = tmp_path / "f.npz", tmp_path / "ran"
    want = fuzz_files.answers(pmwmix.load(linear.save(path)))
    damage = fuzz_files.Damage(path.read_bytes(), np.random.default_rng(0), mark)
    text = str(damage.arrays["meta"])
    places = [p for p in fuzz_files.paths(json.loads(text)) if p and not any(isinstance(k, int) and k > 1 for k in p)]
    assert len(places) > 100
    for number, place in enumerate(places):
        meta = json.loads(text)
        owner = fuzz_files.get(meta, place[:-1])
        if number % 2:  # another value; else none
            owner[place[-1]] = {} if isinstance(owner[place[-1]], str) else "x"
        else:
            del owner[place[-1]]
        end = fuzz_files.run(damage.with_meta(meta, True), path, want, mark, False)
        assert end in ("refused", "answered", "equal"), f"{place}: {end}"


def test_sizes_are_compared_before_memory_is_taken(linear, tmp_path):
    path = linear.save(tmp_path / "fit.npz")
    damage = fuzz_files.Damage(path.read_bytes(), np.random.default_rng(0), tmp_path / "ran")
    for content in (damage.huge(), damage.bomb()):
        path.write_bytes(content)
        start = time.perf_counter()
        with pytest.raises(DataError, match="not a saved fit"):
            pmwmix.load(path)
        assert time.perf_counter() - start < 2
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.npy", b"\x93NUMPY\x01\x00\x10\x00" + b"{'descr': '|O'}\n")
    with pytest.raises(DataError, match="not a saved fit"):
        pmwmix.load(path)


def test_later_versions_and_altered_contents_are_told_apart(linear, tmp_path):
    later = altered(linear, tmp_path / "a.npz", lambda meta: meta.update(format=9))
    with pytest.raises(DataError, match=r"later version of pmwmix\. 'a\.npz' has format 9.*Update pmwmix"):
        pmwmix.load(later)
    with pytest.raises(DataError, match=r"damaged\. In 'b\.npz': its contents are not those"):
        pmwmix.load(altered(linear, tmp_path / "b.npz", lambda meta: None, sign=False))
    one = linear.save(tmp_path / "c.npz")
    with np.load(one) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["fit/y"], arrays["fit/marginal"] = arrays["fit/marginal"], arrays["fit/y"]
    written(one, arrays)
    with pytest.raises(DataError, match="damaged"):
        pmwmix.load(one)


@pytest.mark.parametrize("formula", ["y ~ `my col` + {x + z} + (1 | g)", "y ~ 0 + f + `my col`:f + (0 + `my col` | g)"])
def test_names_in_backticks_and_code_in_braces_come_back(formula, tmp_path):
    rng = np.random.default_rng(2)
    d = pd.DataFrame(rng.normal(size=(120, 4)), columns=["y", "x", "z", "my col"])
    d["g"], d["f"] = np.arange(120) % 12, rng.choice(["a", "b"], 120)
    fit = pmwmix.fit(formula, d)
    np.testing.assert_allclose(pmwmix.load(fit.save(tmp_path / "f.npz")).predict(d), fit.predict(d), rtol=1e-12)


def test_labels_of_any_kind_are_saved(tmp_path):
    rng = np.random.default_rng(4)
    d = pd.DataFrame({"y": rng.normal(size=90), "a": rng.uniform(0, 9, 90)})
    d["g"] = pd.cut(d["a"], 9)  # intervals
    fit = pmwmix.fit("y ~ 1 + (1 | g)", d)
    back = pmwmix.load(fit.save(tmp_path / "f.npz"))
    np.testing.assert_allclose(back.predict(d), fit.predict(d), rtol=1e-12)


# -- whole or not at all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "said"),
    [("no/such/f.npz", "folder does not exist"), ("", "is a folder"), (3, "Got int 3"), ("a\0b", "saved to a path")],
)
def test_impossible_names_are_refused(linear, tmp_path, path, said):
    with pytest.raises(OptionError, match=said):
        linear.save(path if isinstance(path, int) else f"{tmp_path}/{path}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_what_cannot_be_written_ends_in_words(linear, tmp_path):
    with pytest.raises(FileError, match="could not be written"):
        linear.save("/dev/full")
    with pytest.raises(OptionError, match="cannot be saved under this name"):
        linear.save(tmp_path / f"{'a' * 300}.npz")
    with pytest.raises(FileError, match="no such file"):
        pmwmix.fit("y ~ x + (1 | g)", str(tmp_path / f"{'a' * 300}.csv"))


def test_a_full_disk_keeps_the_old_file(linear, tmp_path):
    path = linear.save(tmp_path / "fit.npz")
    before, limit = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
        with pytest.raises(FileError, match=r"could not be written\. 'fit\.npz'.*untouched"):
            linear.save(path)
        with pytest.raises(FileError, match=r"could not be written\. 'new\.parquet'"):
            table = pd.DataFrame(np.random.default_rng(0).normal(size=(2000, 3)), columns=list("abc"))
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            table.to_csv(tmp_path / "t.csv", index=False)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
            pmwmix.convert(tmp_path / "t.csv", tmp_path / "new.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["fit.npz", "t.csv"]


def test_an_error_or_interruption_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    for wrong in (KeyboardInterrupt, ZeroDivisionError, MemoryError):
        with pytest.raises(FileError if wrong is MemoryError else wrong), replacing(path) as new:
            new.write_text("half")
            raise wrong
        assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_kill_leaves_the_old_file_or_the_new_one(linear, tmp_path):
    path = linear.save(tmp_path / "fit.npz")
    code = (
        "import sys, pmwmix\nfit = pmwmix.load(sys.argv[1])\nprint('ready', flush=True)\n"
        "while True:\n    fit.save(sys.argv[1])\n"
    )
    for wait in (0.01, 0.05, 0.12):
        child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert pmwmix.load(path).loglik == linear.loglik


def test_links_and_permissions_stay(linear, tmp_path):
    real = linear.save(tmp_path / "real.npz")
    real.chmod(0o640)
    (tmp_path / "link.npz").symlink_to(real)
    linear.save(tmp_path / "link.npz")
    assert (tmp_path / "link.npz").is_symlink() and oct(real.stat().st_mode)[-3:] == "640"
    assert pmwmix.load(real).loglik == linear.loglik


def test_a_device_is_written_to_as_it_is():
    with replacing(Path("/dev/null")) as new:
        new.write_text("gone")
    assert Path("/dev/null").is_char_device()
