"""Several sources of imputation: numbers of miceadds, mitml and mice, identities, imputed tables through every verb."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, survey

import pmwmix
from pmwmix.errors import DataError, DesignError, NotSupportedError, OptionError, WeightError
from pmwmix.inference.missing import by_source, enough
from pmwmix.pooling import pool
from pmwmix.pooling.nested import mix_draws, sources_of, table_of, wald_of
from pmwmix.pooling.rubin import rubin

FORMULA = "math ~ escs + (1 | SCHOOLID)"
FIRST = np.array([[10, 12, 11, 15], [14, 13, 17, 16], [9, 12, 10, 13]], dtype=float)
SECOND = np.array([[3, 1, 2, 2], [5, 4, 4, 7], [2, 2, 3, 1]], dtype=float)
Q = np.stack([FIRST, SECOND], axis=2).reshape(12, 2)  # three tables of four plausible values
U = np.array([[[4 + b, 1], [1, 2 + w / 4]] for b in (1, 2, 3) for w in (1, 2, 3, 4)])
NESTED = [(f"imputation {b}",) for b in (1, 2, 3) for _ in range(4)]
CROSSED = [(f"imputation {b}", f"PV {w}") for b in (1, 2, 3) for w in (1, 2, 3, 4)]


def test_nested_pooling_agrees_with_miceadds():
    """pool.nmi.scalar.helper and NMIwaldtest of miceadds (github.com/alexanderrobitzsch/miceadds), run in R 4.2.2."""
    pooled = pool(Q, U, np.inf, NESTED)
    close(pooled.estimate, [38 / 3, 3.0])
    close(pooled.vcov, [[14.61111111111, 5.41666666667], [5.41666666667, 7.45833333333]], rtol=1e-10)
    close(pooled.df, [12.14130243988, 6.88691727169], rtol=1e-10)
    sources = sources_of(Q, NESTED)
    assert [one.name for one in sources] == ["imputation", "PV"]
    close(sources[1].component, [[3.777777777778, -0.333333333333], [-0.333333333333, 1.111111111111]], rtol=1e-10)
    between, within = by_source([*sources_of(Q, NESTED, together=False)], np.diag(pooled.within))
    close(between, [0.157940161105, 0.296150617580], rtol=1e-10)
    close(within, [0.386363636364, 0.297397769517], rtol=1e-10)
    close(wald_of(pooled.estimate, pooled.within, Q, NESTED), [5.52320553474, 22.532110796], rtol=1e-9)


def test_missing_information_agrees_with_mitml_and_mice():
    """mitml 0.4-4 testEstimates, with and without df.com = 40; its RIV, FMI and D1; mice 3.15.0 pool.scalar."""
    q = np.array([[10, 3], [12, 1], [11, 2], [15, 2], [9, 5]], dtype=float)
    u = np.array([[4 + i / 4, 2 + i / 2] for i in range(5)])
    labels = [(f"imputation {k}",) for k in range(5)]
    for nests in ((), labels):
        pooled = pool(q, u, np.inf, nests)
        close(pooled.added / pooled.within, [1.41333333333, 0.92], rtol=1e-10)
        close(pooled.fmi, [0.642154261527, 0.530174874263], rtol=1e-10)
        close(pooled.df, [11.6628693485, 17.4215500945], rtol=1e-10)
        bounded = pool(q, u, 40.0, nests)
        close(bounded.df, [6.71057096976, 9.28146283652], rtol=1e-10)
        close(bounded.fmi, [0.670978361536, 0.563982838855], rtol=1e-10)
        V = np.mean([[[a, 1], [1, b]] for a, b in u], axis=0)
        close(wald_of(pooled.estimate, V, q, nests), [5.82102547565, 13.0779639023], rtol=1e-10)


def test_sources_reduce_to_rubins_rules():
    rng = np.random.default_rng(1)
    values, V = rng.normal(size=(5, 3)), np.array([np.diag(row) for row in rng.uniform(1, 2, (5, 3))])
    plain = rubin(values, V, 30.0)
    three = [(f"imputation {b}", f"PV {k}") for b in range(3) for k in range(5)]
    fives = [(f"t {k}",) for k in range(5) for _ in range(4)]
    alike = {  # equal tables, the same plausible values in each; equal plausible values in every table; no labels
        "tables": pool(np.tile(values, (3, 1)), np.tile(V, (3, 1, 1)), 30.0, three),
        "values": pool(values.repeat(4, axis=0), V.repeat(4, axis=0), 30.0, fives),
        "one": pool(values, V, 30.0, [(f"imputation {k}",) for k in range(5)]),
    }
    for pooled in alike.values():
        for name in ("estimate", "vcov", "within", "between", "fmi", "df"):
            close(getattr(pooled, name), getattr(plain, name), rtol=1e-9, atol=1e-12)


def test_components_are_those_of_the_analysis_of_variance():
    """Two-way table without replication: mean squares by hand; their factors from 1 + 1/n of every component."""
    M, K = 3, 4
    a, b = FIRST.mean(axis=1), FIRST.mean(axis=0)
    rest = FIRST - a[:, None] - b + FIRST.mean()
    squares = [K * a.var(ddof=1), M * b.var(ddof=1), (rest**2).sum() / ((M - 1) * (K - 1))]
    found = sources_of(FIRST.reshape(12, 1), CROSSED)
    assert table_of(CROSSED) == [("imputation", 3), ("PV", 4), ("imputation:PV", 12)]
    close([one.mean_square[0, 0] for one in found], squares)
    close([one.df for one in found], [2, 3, 6])
    components = [(squares[0] - squares[2]) / K, (squares[1] - squares[2]) / M, squares[2]]
    close([one.component[0, 0] for one in found], components)
    total = sum((1 + 1 / n) * part for n, part in zip((M, K, M * K), components, strict=True))
    close(sum(one.added[0, 0] for one in found), total)
    close(FIRST.ravel() - FIRST.mean(), sum(one.effects[:, 0] for one in found))


def test_crossed_sets_inside_imputed_tables():
    nests = [(f"imputation {m}", f"math {m}.{k}", f"read {m}.{j}") for m in (1, 2, 3) for k in "ab" for j in "wxyz"]
    assert table_of(nests) == [("imputation", 3), ("math", 6), ("read", 12), ("math:read", 24)]
    found = sources_of(np.random.default_rng(0).normal(size=(24, 2)), nests)
    close([one.df for one in found], [2, 3, 9, 9])


def test_numbers_one_by_one_are_the_diagonal():
    alone = pool(Q, np.diagonal(U, axis1=1, axis2=2), 20.0, CROSSED)
    together = pool(Q, U, 20.0, CROSSED)
    for name in ("vcov", "within", "between"):
        close(getattr(alone, name), np.diag(getattr(together, name)))
    close(alone.df, together.df)
    cubes = pool(Q.reshape(12, 2, 1), np.ones((12, 2, 1)), 20.0, NESTED)
    close(cubes.vcov[:, 0], pool(Q, np.ones((12, 2)), 20.0, NESTED).vcov)


def test_mixed_draws_spread_by_the_rule_of_their_labels():
    rng = np.random.default_rng(2)
    parts = [row + rng.normal(size=(20_000, 2)) for row in Q]
    for nests in (NESTED, CROSSED):
        means = np.array([part.mean(axis=0) for part in parts])
        wanted = 1 + sum(np.diag(one.added) for one in sources_of(means, nests))
        close(mix_draws(parts, nests).var(axis=0), wanted, rtol=0.01)


def test_unbalanced_sources_are_refused():
    with pytest.raises(OptionError, match=r"'PV' there are 11 with|'imputation' there are 3 with 3 to 4 fits"):
        pool(Q[:11], U[:11], np.inf, NESTED[:11])
    with pytest.raises(OptionError, match="Pool fits of one call"):
        pool(Q[:2], U[:2], np.inf, [("imputation 1",), ()])


def test_how_many_are_enough():
    """von Hippel (2020): the fraction's bound is just below a half here, and 1 + (0.5 / 0.05)² / 2 = 51."""
    fraction = 1 / (1 + np.exp(1e-4 + 1.959963984540054 * np.sqrt(2 / 20)))
    close(enough(np.array([fraction]), 20, 0.05), 51)
    assert enough(np.array([0.1]), 20, 0.05) < enough(np.array([0.3]), 20, 0.05) < enough(np.array([0.3]), 5, 0.05)


@pytest.fixture(scope="module")
def data():
    """Four imputed tables of one survey with three plausible values; ``escs`` was imputed."""
    s, rng = survey(), np.random.default_rng(7)
    lost = rng.random(len(s.data)) < 0.3
    tables = [
        s.data.assign(escs=s.data["escs"] + lost * rng.normal(0, 0.5, len(s.data)), region=s.data["SCHOOLID"] % 2)
        for _ in range(4)
    ]
    return {"tables": tables, "options": {"weights": s.weights, "pv": {"math": ["PV1MATH", "PV2MATH", "PV3MATH"]}}}


@pytest.fixture(scope="module")
def crossed(data):
    return pmwmix.fit(FORMULA, data["tables"], **data["options"])


def test_tables_with_the_same_plausible_values_are_crossed(data, crossed):
    assert crossed.nests == tuple((f"imputation {m}", f"PV {k}") for m in (1, 2, 3, 4) for k in (1, 2, 3))
    each = [pmwmix.fit(FORMULA, table, **data["options"]) for table in data["tables"]]
    values = np.array([part.coef for one in each for part in one.fits])
    covariances = np.array([part.vcov for one in each for part in one.fits])
    by_hand = pool(values, covariances, crossed.design_df, crossed.nests)
    close(crossed.vcov, by_hand.vcov, rtol=1e-6)
    again = pmwmix.pool(each, rule="crossed")
    pd.testing.assert_frame_equal(again.tidy(), crossed.tidy(), rtol=1e-6)
    nested = pmwmix.pool(each, rule="nested")
    close(nested.se, np.sqrt(np.diag(pool(values, covariances, np.inf, [(f"t {i // 3}",) for i in range(12)]).vcov)))
    assert (pmwmix.pool(each, rule="rubin").se < crossed.se).all()  # twelve dependent fits are not twelve values
    assert "12 fits: imputation (4), then PV (3); crossed: imputation x PV" in " ".join(str(crossed.summary()).split())


def test_equal_tables_are_one(data):
    one = pmwmix.fit(FORMULA, data["tables"][0], **data["options"])
    three = pmwmix.fit(FORMULA, data["tables"][:1] * 3, **data["options"])
    pd.testing.assert_frame_equal(three.tidy(), one.tidy(), rtol=1e-9)
    close(three.varcorr[["vcov", "se"]], one.varcorr[["vcov", "se"]], rtol=1e-9)


def test_own_plausible_values_are_nested(data):
    tables = [
        t.assign(**{f"PV{k}MATH": t[f"PV{(k + i) % 5 + 1}MATH"] for k in (1, 2, 3)})
        for i, t in enumerate(data["tables"])
    ]
    fit = pmwmix.fit(FORMULA, tables, **data["options"])
    assert table_of(fit.nests) == [("imputation", 4), ("PV", 12)]


def test_mice_long_format(data, crossed, tmp_path):
    original = data["tables"][0].assign(escs=np.nan)
    stacked = pd.concat([original, *data["tables"]], keys=range(5), names=[".imp", "row"]).reset_index(".imp")
    long = stacked.assign(**{".id": np.tile(np.arange(1, len(original) + 1), 5)}).reset_index(drop=True)
    long.to_parquet(tmp_path / "long.parquet")
    for source in (long, tmp_path / "long.parquet"):
        fit = pmwmix.fit(FORMULA, source, imputation=".imp", **data["options"])
        pd.testing.assert_frame_equal(fit.tidy(), crossed.tidy(), rtol=1e-9)
    assert fit.index[0] == 1 and any(".imp = 0" in note for note in fit.notes)
    with pytest.raises(DataError, match=r"Say imputation='\.imp'"):
        pmwmix.fit(FORMULA, long, **data["options"])
    with pytest.raises(DataError, match="have the same rows"):
        pmwmix.fit(FORMULA, long.iloc[:-3], imputation=".imp", **data["options"])
    with pytest.raises(DataError, match="480 rows have none"):
        pmwmix.fit(
            FORMULA, long.assign(**{".imp": long[".imp"].replace(0, np.nan)}), imputation=".imp", **data["options"]
        )


def test_verbs_of_a_fit_of_imputed_tables(data, crossed, tmp_path):
    loaded = pmwmix.load(crossed.save(tmp_path / "fit.pmwmix"))
    assert loaded.nests == crossed.nests
    pd.testing.assert_frame_equal(loaded.tidy(), crossed.tidy())
    close(loaded.wald("escs"), crossed.wald("escs"))
    close(crossed.wald("escs")["df2"], crossed.df()["escs"])
    assert np.isfinite(crossed.wald(["Intercept", "escs"]).to_numpy()).all()
    assert len(crossed.fitted()) == 480 and len(crossed.ranef()) == 40
    assert np.isfinite(crossed.confint_varcorr()[["se", "ci_low"]].to_numpy()).all()
    assert "fmi" in crossed.r2() and np.isfinite(pmwmix.icc_se(crossed).to_numpy()).all()
    table = pmwmix.sensitivity(crossed)
    assert len(table)
    smaller = pmwmix.fit("math ~ 1 + (1 | SCHOOLID)", data["tables"], **data["options"])
    with pytest.raises(NotSupportedError, match=r"'imputation', 'PV', 'imputation:PV'. Use fit.wald"):
        pmwmix.lrt(smaller, crossed)


def test_missing_information_by_source(crossed):
    table = crossed.missing_information().set_index(["kind", "term"])
    parts = table.filter(like="fmi_")
    assert list(parts) == ["fmi_imputation", "fmi_PV", "fmi_imputation:PV"]
    lost = crossed.pooled.between.diagonal()
    close(parts.loc["coef"].sum(axis=1), lost / (lost + crossed.pooled.within.diagonal()))
    close(table.loc["coef", "fmi"], crossed.tidy()["fmi"])
    assert parts.loc[("coef", "escs"), "fmi_imputation"] > parts.loc[("coef", "Intercept"), "fmi_imputation"]
    single = crossed.fits[0]
    with pytest.raises(NotSupportedError, match="differences between fits"):
        single.missing_information()
    one = pmwmix.pool(crossed.fits[:3], rule="rubin").missing_information()
    close(one["mc_error"][:2], np.array([fit.coef for fit in crossed.fits[:3]]).std(axis=0, ddof=1) / np.sqrt(3))
    with pytest.raises(OptionError, match="coefficient of variation"):
        crossed.missing_information(cv=5)


def test_two_sets_of_plausible_values_crossed():
    s = survey()
    sets = {"math": ["PV1MATH", "PV2MATH"], "read": ["PV3MATH", "PV4MATH", "PV5MATH"]}
    fit = pmwmix.fit("math ~ read + (1 | SCHOOLID)", s.data, pv=sets, pv_pairing="cross")
    assert table_of(fit.nests) == [("math", 2), ("read", 3), ("math:read", 6)]
    alone = pmwmix.fit("PV2MATH ~ PV3MATH + (1 | SCHOOLID)", s.data)
    close(fit.fits[3].coef, alone.coef, rtol=1e-6)
    assert fit.settings.pv == sets
    with pytest.raises(OptionError, match="Crossing needs two sets"):
        pmwmix.fit(FORMULA, s.data, pv={"math": ["PV1MATH", "PV2MATH"]}, pv_pairing="cross")
    with pytest.raises(OptionError, match="paired by number or crossed"):
        pmwmix.fit(FORMULA, s.data, pv_pairing="crossed")


def _first(tables, change):
    return [tables[0], *(change(table) for table in tables[1:])]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.iloc[:-1], DataError, "Table 1 has 480 in the model, table 2 479"),
        (lambda t: t.sample(frac=1, random_state=1), DataError, "sort the tables alike"),
        (lambda t: t.assign(escs=t["escs"].where(t.index != 3)), DataError, "table 2 loses '?1 to escs"),
        (lambda t: t.assign(SCHOOLID=t["SCHOOLID"].replace({1: 101})), DataError, "'SCHOOLID' differs between table 1"),
        (lambda t: t.assign(W_FSTUWT=2 * t["W_FSTUWT"]), WeightError, "'W_FSTUWT' differs between table 1 and table 2"),
        (lambda t: t.assign(region=0), DesignError, "'?region'?.*table 1 and table 2"),
    ],
)
def test_tables_differ_only_in_what_was_imputed(data, change, error, words):
    with pytest.raises(error, match=words):
        pmwmix.fit(FORMULA, _first(data["tables"], change), design={"strata": "region"}, **data["options"])


def test_wrong_calls_with_imputed_tables(data, crossed):
    tables, options = data["tables"], data["options"]
    wrong = {
        "imputed tables is empty": ([], {}),
        "Leave one of the two out": (tables, {"imputation": ".imp"}),
        "numbered by a column": (tables[0], {"imputation": 3}),
        "missing_imp": (tables[0], {"imputation": "missing_imp"}),
    }
    for words, (table, more) in wrong.items():
        with pytest.raises(pmwmix.errors.PmwmixError, match=words):
            pmwmix.fit(FORMULA, table, **options, **more)
    with pytest.raises(NotSupportedError, match="4 tables"):
        pmwmix.fit(FORMULA, tables, method="bayes", **options)
    for words, fits, rule in (
        ("without a rule", [crossed, crossed], None),
        ("Unknown rule of pooling 'nest'", [crossed], "nest"),
        ("Got 1 fits", [crossed], "nested"),
        ("Got 2 fits with", [crossed.fits[0], crossed], "crossed"),
    ):
        with pytest.raises(OptionError, match=words):
            pmwmix.pool(fits, rule=rule)


def test_tables_of_models_name_the_sources(crossed):
    assert "12 fits: imputation (4), then PV (3)" in " ".join(str(pmwmix.table([crossed])).split())
