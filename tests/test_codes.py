"""Codes and categories: labelled codes that enter as numbers, other spellings in new data, categories without rows."""

import numpy as np
import pandas as pd
import pytest

import pmwmix
from pmwmix import Design, PmwmixWarning

pyreadstat = pytest.importorskip("pyreadstat")
STATUS = {1.0: "Native", 2.0: "Second-Generation", 3.0: "First-Generation"}
GROUPS, ROWS = 30, 600


def base(seed=1):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(GROUPS), ROWS // GROUPS)
    x = rng.normal(size=ROWS)
    y = 1 + 0.5 * x + rng.normal(size=GROUPS)[g] + rng.normal(size=ROWS)
    return pd.DataFrame({"g": g.astype(float), "x": x, "y": y})


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    rng = np.random.default_rng(5)
    d = base()
    d["IMMIG"] = rng.choice([1.0, 2.0, 3.0], ROWS)
    d["SEX"] = rng.choice([1.0, 2.0], ROWS)
    d["WLE"] = np.where(rng.random(ROWS) < 0.1, 95.0, rng.normal(size=ROWS).round(2))
    d["BOOKS"] = rng.choice([0.0, 1.0, 2.0, 3.0], ROWS)
    d["TEN"] = rng.choice(np.arange(1.0, 11.0), ROWS)
    path = tmp_path_factory.mktemp("coded") / "t.sav"
    labels = {
        "IMMIG": STATUS,
        "SEX": {1.0: "Female", 2.0: "Male"},
        "WLE": {95.0: "Valid Skip", 99.0: "No Response"},
        "BOOKS": {0.0: "none"},
        "TEN": {float(k): str(k) for k in range(1, 11)} | {99.0: "No Response"},
    }
    pyreadstat.write_sav(d, str(path), variable_value_labels=labels)
    return path


@pytest.mark.parametrize("read", [str, pmwmix.read_survey])
def test_labelled_codes_taken_as_a_number_are_told_aloud(file, read):
    with pytest.warns(PmwmixWarning, match=r"'IMMIG'.*'1 Native', '2 Second-Generation'.*C\(IMMIG\)"):
        fit = pmwmix.fit("y ~ IMMIG + SEX + WLE + BOOKS + TEN + (1 | g)", read(file))
    told = [note for note in fit.notes if "Codes of" in note]
    assert len(told) == 1 and "'IMMIG'" in told[0] and len(fit.coef) == 6


@pytest.mark.parametrize("term", ["C(IMMIG)", "I(IMMIG)", "scale(IMMIG)", "I(IMMIG == 2)", "factor(IMMIG):SEX"])
def test_codes_that_are_meant_as_they_stand_are_not(file, term):
    fit = pmwmix.fit(f"y ~ {term} + (1 | g)", pmwmix.read_survey(file))
    assert not any("Codes of" in note for note in fit.notes)


def test_labelled_codes_as_random_slopes_and_in_groups(file):
    read = pmwmix.read_survey(file)
    with pytest.warns(PmwmixWarning, match="'IMMIG'"):
        pmwmix.fit("y ~ x + (0 + IMMIG | g)", read)
    read["CNT"] = np.where(np.arange(ROWS) < 300, "A", "B")
    with pytest.warns(PmwmixWarning, match="'IMMIG'"):
        fits = pmwmix.fit_groups("y ~ x:IMMIG + (1 | g)", read, progress=False)
    assert all(any("Codes of 'IMMIG'" in note for note in fit.notes) for fit in fits.values())


def test_categories_of_an_ordinal_outcome_without_rows_are_noted():
    d = base()
    at = np.array([1, 2, 4, 5])[np.digitize(d["y"], [-0.5, 1, 2])]
    names = ["zero", "never", "some", "gap", "often", "daily", "always"]
    o = pd.Categorical.from_codes(at, categories=names, ordered=True)
    fit = pmwmix.fit("o ~ x + (1 | g)", d.assign(o=o), family="cumulative", n_agq=5)
    assert any("left out: 'zero', 'gap', 'always'" in note for note in fit.notes)
    assert fit.categories == ("never", "some", "often", "daily")
    plain = pmwmix.fit("o ~ x + (1 | g)", d.assign(o=at), family="cumulative", n_agq=5)
    np.testing.assert_allclose([fit.loglik, *fit.coef], [plain.loglik, *plain.coef], rtol=1e-9)
    lost = d.assign(o=o)
    lost.loc[lost["o"] == "daily", "x"] = np.nan  # only rows that are dropped have it
    again = pmwmix.fit("o ~ x + (1 | g)", lost, family="cumulative", n_agq=5)
    assert any("'zero', 'gap', 'daily', 'always'" in note for note in again.notes)


@pytest.mark.parametrize(
    ("seen", "new"),
    [
        ([7, 8, 9], [7, 8, 9]),
        ([7, 8, 9], [7.0, 8.0, 9.0]),
        ([7.0, 8.0, 9.0], [7, 8, 9]),
        ([1.5, 2.0, 2.5], [1.5, 2.0, 2.5]),
        (["07", "08", "09"], [7, 8, 9]),
        ([False, True], [False, True]),
        ([False, True], [0, 1]),
        (["7", "8", "9"], np.array([7, 8, 9], dtype=np.int8)),
    ],
)
def test_new_data_may_spell_categories_as_numbers_or_flags(seen, new, tmp_path):
    rng = np.random.default_rng(9)
    d = base().assign(f=pd.Categorical(np.array(seen, dtype=object)[rng.integers(0, len(seen), ROWS)], categories=seen))
    fit = pmwmix.fit("y ~ f + (1 | g)", d)
    fit.save(tmp_path / "fit.npz")
    want = fit.predict(pd.DataFrame({"f": pd.Categorical(seen), "g": 0.0}), conditional=False)
    for one in (fit, pmwmix.load(tmp_path / "fit.npz")):
        got = one.predict(pd.DataFrame({"f": new, "g": 0.0}), conditional=False)
        np.testing.assert_allclose(got, want, rtol=1e-12)
    with pytest.raises(pmwmix.PmwmixError, match="'f' has '17'"):
        fit.predict(pd.DataFrame({"f": [17], "g": 0.0}), conditional=False)


@pytest.mark.parametrize("empty", [np.nan, 0.0])
def test_a_country_with_fewer_replicates_uses_its_own(empty):
    rng = np.random.default_rng(16)
    parts = []
    for country, R in (("AAA", 15), ("BBB", 12)):
        d = base(R).assign(CNT=country, w=rng.uniform(1, 5, ROWS))
        zone, half = d["g"] % R, d["g"] // R % 2 == 1
        for r in range(15):
            d[f"r{r + 1}"] = np.where(zone == r, np.where(half, 2 * d["w"], 0), d["w"]) if r < R else empty
        parts.append(d)
    design = Design(replicate_weights="r{}", replicate_type="jk2")
    both = pd.concat(parts, ignore_index=True)
    fits = pmwmix.fit_groups("y ~ x + (1 | g)", both, weights=["w"], design=design, progress=False)
    own = parts[1].drop(columns=["r13", "r14", "r15"])
    alone = pmwmix.fit("y ~ x + (1 | g)", own, weights=["w"], design=design)
    np.testing.assert_allclose(fits["BBB"].se, alone.se, rtol=1e-9)
    assert fits["BBB"].settings.replicates == ("jk2", 12, 12.0) and fits["AAA"].settings.replicates[1] == 15
    assert any("12 replicates: 'r13', 'r14', 'r15' are empty" in note for note in fits["BBB"].notes)
    scaled = Design(replicate_weights="r{}", replicate_type="jk2", replicate_scale=[1.0] * 12 + [7.0] * 3)
    again = pmwmix.fit("y ~ x + (1 | g)", parts[1], weights=["w"], design=scaled)
    np.testing.assert_allclose(again.se, alone.se, rtol=1e-9)
    if np.isnan(empty):
        with pytest.raises(pmwmix.PmwmixError, match=r"'r13'.*missing in 600 of 1200 rows.*fit_groups"):
            pmwmix.fit("y ~ x + (1 | g)", both, weights=["w"], design=design)
