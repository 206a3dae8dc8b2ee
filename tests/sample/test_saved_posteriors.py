"""Saved posteriors: damaged, altered and hostile files end in words or an equal result, and none of their code runs."""

import json
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pmwmix
from pmwmix.errors import DataError, FileError, OptionError, PmwmixError
from pmwmix.sample.guard import seal_netcdf, seal_zarr


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(0)
    d = pd.DataFrame({"x": rng.normal(size=120), "g": np.repeat(np.arange(12), 10), "w": rng.uniform(1, 3, 120)})
    for k in (1, 2):
        d[f"pv{k}"] = 1 + 0.5 * d["x"] + rng.normal(size=12)[d["g"]] + rng.normal(size=120)
    options = {"draws": 20, "tune": 50, "chains": 2, "random_seed": 1, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # far too few draws
        return pmwmix.fit("m ~ x + (1 | g)", d, pv={"m": "pv{}"}, weights=["w"], method="bayes", **options)


def answers(fit):
    new = pd.DataFrame({"x": [0.0, 1.0], "g": [1, 2]})
    asked = [
        lambda: str(fit.summary()),
        lambda: fit.tidy().to_numpy().tolist(),
        lambda: str(fit.varcorr),
        lambda: str(fit.draws().sum()),
        lambda: str(fit.confint()),
        lambda: np.asarray(fit.predict(new, conditional=False)).tolist(),
        lambda: str(fit.priors),
        lambda: str(fit.diagnostics),
    ]
    out = []
    for ask in asked:
        try:
            out.append(ask())
        except PmwmixError as error:
            out.append(str(error))
    return out


def end_of(path, want):
    """Load a file and say how it ended."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "equal" if repr(answers(pmwmix.load(path))) == repr(want) else "answered"
    except PmwmixError as error:
        return "refused" if str(error).count(". ") >= 2 else f"without three sentences: {error}"


@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_damaged_files_end_in_words_or_in_an_equal_result(fit, tmp_path, ending):
    rng, whole = np.random.default_rng(1), fit.save(tmp_path / f"whole.{ending}")
    want = answers(pmwmix.load(whole))
    counts = {"refused": 0, "equal": 0}
    for k in range(30):
        path = tmp_path / f"{k}.{ending}"
        if ending == "nc":
            shutil.copy(whole, path)
            target = path
        else:
            shutil.copytree(whole, path)
            files = sorted(one for one in path.rglob("*") if one.is_file())
            target = files[rng.integers(len(files))]
        content = bytearray(target.read_bytes())
        if k % 5 == 4:
            content = content[: rng.integers(len(content))]
        elif k % 5 == 3 and ending == "zarr":
            target.unlink()
        else:
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        if target.exists():
            target.write_bytes(content)
        end = end_of(path, want)
        assert end in counts, (k, target, end)
        counts[end] += 1
    assert counts["refused"] > 20


def test_a_zarr_store_that_would_unpickle_is_refused(fit, tmp_path):
    import numcodecs
    import zarr

    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    path = fit.save(tmp_path / "f.zarr")
    shutil.rmtree(path / "posterior" / "beta")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(path / "posterior" / "beta", mode="w", zarr_format=2)
        del group
    packed = numcodecs.Pickle().encode(np.array([Trap()], dtype=object))
    meta = {
        "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "compressor": None, "fill_value": None,
        "order": "C", "filters": [{"id": "pickle", "protocol": 5}],
    }  # fmt: skip
    (path / "posterior" / "beta" / ".zarray").write_text(json.dumps(meta))
    (path / "posterior" / "beta" / "0").write_bytes(packed)
    with pytest.raises(DataError, match="second version"):
        pmwmix.load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["codecs"].append({"name": "pickle"}), "packed by pickle"),
        (lambda m: m.update(shape=[10**9, 10**6]), "more data"),
        (lambda m: m.update(storage_transformers=[{"name": "x"}]), "no array or group"),
    ],
)
def test_descriptions_of_a_zarr_store_are_read_first(fit, tmp_path, change, said):
    path = fit.save(tmp_path / "f.zarr")
    file = path / "posterior" / "beta" / "zarr.json"
    meta = json.loads(file.read_text())
    change(meta)
    file.write_text(json.dumps(meta))
    seal_zarr(path)
    with pytest.raises(DataError, match=said):
        pmwmix.load(path)


def test_links_in_a_store_are_refused(fit, tmp_path):
    path = fit.save(tmp_path / "f.zarr")
    (path / "posterior" / "more").symlink_to("/etc")
    with pytest.raises(DataError, match="link to something else"):
        pmwmix.load(path)


def external(file, folder):
    (folder / "secret").write_bytes(bytes(8))
    del file["posterior/sigma"]
    file["posterior"].create_dataset("sigma", shape=(1,), dtype="f8", external=[(str(folder / "secret"), 0, 8)])


def huge(file, folder):
    file["posterior"].create_dataset("more", shape=(10**9, 10**6), dtype="f8", chunks=(1000, 1000))


def circle(file, folder):
    file["posterior/again"] = file["posterior"]


def link(file, folder):
    file["posterior/other"] = h5py.ExternalLink("/etc/passwd", "/")


@pytest.mark.parametrize("change", [external, huge, circle, link])
def test_hdf5_that_points_elsewhere_or_promises_too_much_is_refused(fit, tmp_path, change):
    path = fit.save(tmp_path / "f.nc")
    with h5py.File(path, "r+") as file:
        change(file, tmp_path)
    seal_netcdf(path)
    with pytest.raises(DataError, match=r"posterior is damaged or was altered\. In 'f\.nc'"):
        pmwmix.load(path)


def test_variables_that_a_stranger_changed_end_in_words_or_answers(fit, tmp_path):
    path = fit.save(tmp_path / "f.nc")
    with xr.open_datatree(path, engine="h5netcdf") as opened:
        tree = opened.load()
    want = answers(pmwmix.load(path))
    parts = {name: node.to_dataset() for name, node in tree.children.items()}
    places = [(name, one) for name in ("posterior", "observed_data") for one in parts[name].variables]
    for number, (name, variable) in enumerate(places):
        part = parts[name]
        drop, text = part.drop_vars(variable), part.assign({variable: part[variable].astype(str)})
        for new in (drop, text) if variable in ("sd", "sigma", "pv", "level") else ((drop, text)[number % 2],):
            xr.DataTree.from_dict({**parts, name: new}).to_netcdf(tmp_path / "bad.nc", engine="h5netcdf")
            seal_netcdf(tmp_path / "bad.nc")
            assert end_of(tmp_path / "bad.nc", want) in ("refused", "equal", "answered"), (name, variable)


def test_settings_are_checked(fit, tmp_path):
    path = fit.save(tmp_path / "f.zarr")
    whole = json.loads((path / "pmwmix" / "zarr.json").read_text())
    want = answers(pmwmix.load(path))
    for name in json.loads(whole["attributes"]["meta"]):
        for value in (None, {}, "missing"):
            meta = json.loads(whole["attributes"]["meta"])
            meta[name] = value
            if value == "missing":
                del meta[name]
            changed = {**whole, "attributes": {"meta": json.dumps(meta)}}
            (path / "pmwmix" / "zarr.json").write_text(json.dumps(changed))
            seal_zarr(path)
            assert end_of(path, want) in ("refused", "equal", "answered"), (name, value)


def test_later_versions_are_named(fit, tmp_path):
    path = fit.save(tmp_path / "f.zarr")
    file = path / "pmwmix" / "zarr.json"
    file.write_text(file.read_text().replace("pmwmix posterior 1", "pmwmix posterior 2"))
    seal_zarr(path)
    with pytest.raises(DataError, match=r"later version.*format 2.*Update"):
        pmwmix.load(path)


@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_a_failure_while_writing_keeps_the_old_posterior(fit, tmp_path, ending, monkeypatch):
    path = fit.save(tmp_path / f"f.{ending}")
    want = answers(pmwmix.load(path))

    def full(*given, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(xr.DataTree, "to_netcdf" if ending == "nc" else "to_zarr", full)
        with pytest.raises(FileError, match=r"could not be written.*No space left"):
            fit.save(path)
    assert end_of(path, want) == "equal" and [one.name for one in tmp_path.iterdir()] == [f"f.{ending}"]
    fit.save(path)  # over the old one
    assert end_of(path, want) == "equal" and [one.name for one in tmp_path.iterdir()] == [f"f.{ending}"]


def test_folders_that_are_no_store_are_not_replaced(fit, tmp_path):
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "thesis.txt").write_text("years of work")
    (tmp_path / "f.nc").mkdir()
    for name in ("mine.zarr", "f.nc"):
        with pytest.raises(OptionError, match="does not replace other things"):
            fit.save(tmp_path / name)
    assert (tmp_path / "mine.zarr" / "thesis.txt").exists()
