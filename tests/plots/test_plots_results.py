"""Plots of results: what is drawn equals the tables it is said to show, and bad arguments are answered in words."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from helpers import close, hsb, nested, outcomes, survey
from scipy.stats import gaussian_kde, norm

import pmwmix
from pmwmix import plots
from pmwmix.plots._draws import density, parameter_draws
from pmwmix.plots.posterior_predictive import bars_data, curves_data

matplotlib.use("agg")
THREE_SENTENCES = r"(?s)^.+?[.?:] .+?[.?] .+\.$"


@pytest.fixture(autouse=True)
def _closed():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def fit_survey(**options):
    s = survey()
    return pmwmix.fit("math ~ escs * female + (1 | SCHOOLID)", s.data, pv=s.pv, engine="python", **options)


@pytest.fixture(scope="module")
def weighted():
    return fit_survey(weights=survey().weights, scaling="size")


@pytest.fixture(scope="module")
def unweighted():
    return fit_survey()


@pytest.fixture(scope="module")
def logistic():
    return pmwmix.fit("z ~ x + (1 | school)", outcomes(), family="binomial", n_agq=3, engine="python")


@pytest.fixture(scope="module")
def posterior():
    """Two plausible values, two chains each."""
    s = survey(2)
    return pmwmix.fit(
        "math ~ escs * female + (1 + escs | SCHOOLID)", s.data, pv=s.pv, weights=s.weights, scaling="size",
        method="bayes", draws=60, tune=120, chains=2, random_seed=1, engine="python", progress=False,
    )  # fmt: skip


def artists(pc, name, panel):
    """Lines or points of a panel as matplotlib holds them: (n, 2)."""
    drawn = pc.get_viz(name, sel={"panel": panel})
    return np.asarray(drawn.get_xydata() if hasattr(drawn, "get_xydata") else drawn.get_offsets())


# -- forest -----------------------------------------------------------------------------------------------------------


def test_forest_draws_the_table(weighted, unweighted):
    pc = plots.forest([weighted, unweighted], varcorr=True, ci_prob=0.9)
    table = pmwmix.compare([weighted, unweighted], ci_prob=0.9)
    fixed = table.iloc[1:4]
    assert pc.data["panel"].values.tolist() == ["Fixed effects", "Standard deviations"]
    for place, name in enumerate(["ml", "ml (unweighted)"]):
        points = artists(pc, f"estimate {place}", "Fixed effects")[:3]
        close(points[:, 0], fixed[name]["estimate"])
        lines = artists(pc, f"interval {place}", "Fixed effects")[:9].reshape(3, 3, 2)
        close(lines[:, :2, 0], fixed[name][["ci_low", "ci_high"]])
        assert np.isnan(lines[:, 2, 0]).all()
        close(artists(pc, f"estimate {place}", "Standard deviations")[:2, 0], table[name]["estimate"].iloc[4:])
    axes = pc.get_viz("plot", sel={"panel": "Fixed effects"})
    assert [text.get_text() for text in axes.get_yticklabels()] == ["escs", "female", "escs:female"]


def test_forest_of_single_terms_and_of_sensitivity(weighted, unweighted):
    pc = plots.forest([weighted, unweighted], split="term", terms=["sigma", "Intercept"], labels={"sigma": "students"})
    assert pc.data["panel"].values.tolist() == ["sigma", "Intercept"]
    close(artists(pc, "estimate 0", "sigma")[:, 0], [weighted.sigma, unweighted.sigma])
    assert pc.get_viz("plot", sel={"panel": "sigma"}).get_title() == "students"
    table = pmwmix.sensitivity(weighted)
    pc = plots.forest(table, terms="escs")
    rows = table[table["term"] == "escs"]
    drawn = [artists(pc, f"estimate {k}", "Fixed effects")[0, 0] for k in range(len(rows))]
    close(drawn, rows["estimate"])


def test_forest_of_many_groups_has_them_in_rows():
    d = nested().assign(c=lambda t: [f"country {i % 9}" for i in range(len(t))])
    fits = pmwmix.fit_groups("y ~ x + (1 | school)", d, by="c", engine="python")
    pc = plots.forest(fits, terms="x")
    close(artists(pc, "estimate 0", "x")[:, 0], [one.coef["x"] for one in fits.values()])


# -- plausible values -------------------------------------------------------------------------------------------------


def test_pv_spread_draws_every_value_and_the_pooled_one(weighted):
    pc = plots.pv_spread(weighted, terms=["escs", "sigma"])
    close(artists(pc, "pv estimate", "escs")[:, 0], [one.coef["escs"] for one in weighted.fits])
    close(artists(pc, "pooled estimate", "escs")[:, 0], weighted.coef["escs"])
    close(artists(pc, "pooled interval", "escs")[:2, 0], weighted.confint().loc["escs"])
    close(artists(pc, "pv estimate", "sigma")[:, 0], [one.sigma for one in weighted.fits])
    added = (1 + 1 / 5) * np.var([one.coef["escs"] for one in weighted.fits], ddof=1)
    close(pc.data["share"].sel(panel="escs"), added / weighted.se["escs"] ** 2)


# -- weights ----------------------------------------------------------------------------------------------------------


def test_weights_are_counted(weighted):
    pc, d = plots.weights(weighted, bins=10), survey().data
    table = pmwmix.weight_diagnostics(weighted)
    for panel, w in (("obs: total", d["W_FSTUWT"]), ("SCHOOLID: used", d.groupby("SCHOOLID")["W_FSCHWT"].first())):
        one = pc.data.sel(panel=panel)
        close(one["count"], np.histogram(w, 10)[0])
        close(one["mean"], w.mean())
        stats = table.loc[tuple(panel.split(": "))]
        close([one["n_eff"], one["cv"]], stats[["n_eff", "cv"]])
        title = pc.get_viz("plot", sel={"panel": panel}).get_title()
        assert f"effective n = {stats['n_eff']:.0f}, CV = {stats['cv']:.2f}" in title
    within = d["W_FSTUWT"] / d["W_FSCHWT"]
    size = within / within.groupby(d["SCHOOLID"]).transform("mean")
    close(pc.data["count"].sel(panel="obs: used"), np.histogram(size, 10)[0], atol=1)  # weights at an edge of a bar


def test_skewed_and_equal_weights():
    d = nested().assign(w=lambda t: np.exp(3 * np.sin(np.arange(len(t)))))
    pc = plots.weights(pmwmix.fit("y ~ x", d, weights="w", engine="python"))
    assert pc.data["log"].all()
    assert pc.get_viz("plot", sel={"panel": "obs: total"}).get_xscale() == "log"
    close(pc.data["count"].sum("bar"), len(d))
    pc = plots.weights(pmwmix.fit("y ~ x", d.assign(w=2.0), weights="w", engine="python"))
    close(pc.data["count"].max("bar"), len(d))


# -- effects ----------------------------------------------------------------------------------------------------------


def test_effects_draw_predictions(weighted):
    data = survey().data
    pc = plots.effects(weighted, "escs", by="female", newdata=data, at={"escs": np.linspace(-1, 1, 6)})
    table = pmwmix.predictions(weighted, {"escs": np.linspace(-1, 1, 6), "female": [0, 1]}, data)
    for place in (0, 1):
        rows = table[table["female"] == place]
        close(artists(pc, f"mean {place}", ""), rows[["escs", "estimate"]])
        one = pc.data.isel(panel=0, series=place)
        close([one["ci_low"], one["ci_high"]], rows[["ci_low", "ci_high"]].T)


def test_effects_of_factors_panels_and_numbers():
    h = hsb()
    fit = pmwmix.fit("mathach ~ ses * meanses + sector + (1 | school)", h, engine="python")
    pc = plots.effects(fit, "sector", by="meanses", newdata=h)
    mean, sd = h["meanses"].mean(), h["meanses"].std(ddof=0)
    table = pmwmix.predictions(fit, {"sector": ["Public", "Catholic"], "meanses": [mean - sd, mean, mean + sd]}, h)
    close(pc.data["estimate"].isel(panel=0).T, table["estimate"].to_numpy().reshape(2, 3))
    assert pc.data["tick"].values.tolist() == ["Public", "Catholic"]
    pc = plots.effects(fit, "ses", newdata=h, n_points=7, at={"sector": ["Catholic", "Public"], "meanses": 0.1})
    grid = {"ses": np.linspace(h["ses"].min(), h["ses"].max(), 7), "sector": ["Public"], "meanses": [0.1]}
    assert pc.data["panel"].values.tolist() == ["sector = Catholic; meanses = 0.1", "sector = Public; meanses = 0.1"]
    close(pc.data["estimate"].isel(panel=1, series=0), pmwmix.predictions(fit, grid, h)["estimate"])


def test_effects_of_an_ordinal_outcome_have_a_panel_per_category():
    d = outcomes()
    fit = pmwmix.fit("mark ~ x + (1 | school)", d, family="cumulative", n_agq=3, engine="python")
    pc = plots.effects(fit, "x", newdata=d, n_points=6)
    close(pc.data["estimate"].sum("panel"), 1.0)
    assert pc.data["panel"].values.tolist() == [f"mark = {k}" for k in fit.categories]


# -- quadrature -------------------------------------------------------------------------------------------------------


def test_quadrature_draws_the_check(logistic):
    table = pmwmix.quadrature_check(logistic, nodes=(1, 3, 5))
    pc = plots.quadrature(table)
    for term, rows in table.groupby("term"):
        close(artists(pc, f"shift of {term}", "estimates")[:, 1], rows["shift"])
    loglik = table.groupby("n_agq")["loglik"].first().to_numpy()
    close(artists(pc, "log-likelihood", "log-likelihood")[:, 1], loglik - loglik[-1])
    assert "sd(school.Intercept)" in plots.quadrature(logistic, nodes=(1, 3), terms=None).data["term"].values


# -- posteriors -------------------------------------------------------------------------------------------------------


def test_compare_and_forest_of_a_posterior(posterior):
    """Means of all draws; errors and quantiles of draws with Rubin's spread between plausible values."""
    table = pmwmix.compare([posterior.ml, posterior], ci_prob=0.9)
    assert list(table.columns.get_level_values(0).unique()) == ["ml", "bayes"]
    own, tree = table["bayes"], posterior.idata["posterior"]
    close(own.loc["escs", "estimate"], tree["beta"].sel(term="escs").mean())
    x = [part.to_numpy().ravel() for _, part in tree["cor"].isel(pair=0).groupby("pv")]
    centre = np.mean(x)
    apart = np.concatenate([part + (np.sqrt(3.0) - 1.0) * (part.mean() - centre) for part in x])  # (K + 1) / (K - 1)
    row = own.loc["cor(SCHOOLID.Intercept.escs)"]
    close(row, [centre, apart.std(ddof=1), *np.quantile(apart, [0.05, 0.95])])
    pc = plots.forest([posterior.ml, posterior], terms=["escs", "sigma"])
    close(artists(pc, "estimate 1", "Fixed effects")[0, 0], own.loc["escs", "estimate"])
    pc = plots.pv_spread(posterior, terms="escs")
    close(artists(pc, "pv estimate", "escs")[:, 0], [fit.coef["escs"] for fit in posterior.fits])


def test_draws_of_one_plausible_value_by_name(posterior):
    draws, tree = parameter_draws(posterior, pv=2), posterior.idata["posterior"]
    assert list(draws.data_vars) == list(pmwmix.compare(posterior).index)
    close(draws["escs"], tree["beta"].sel(term="escs").to_numpy()[2:])
    close(draws["sd(SCHOOLID.escs)"], tree["sd"].sel(component="SCHOOLID.escs").to_numpy()[2:])
    assert parameter_draws(posterior, "escs", None).sizes["chain"] == 4


def test_trace_and_rank(posterior):
    pc = plots.trace(posterior, terms=["escs", "sigma"], pv=2)
    lines = [node.to_numpy().ravel() for node in pc.viz["trace"].data_vars.values()]
    close(lines[0][0].get_ydata(), posterior.idata["posterior"]["beta"].sel(term="escs").to_numpy()[2])
    assert [len(one) for one in lines] == [2, 2]
    pc = plots.trace(posterior, terms="escs", pv=None)
    assert len(pc.viz["trace"]["escs"]) == 4
    pc = plots.rank(posterior, terms=["escs", "sigma"], labels={"escs": "status"})
    assert list(pc.viz["ecdf_lines"].data_vars) == ["status", "sigma"]


def test_labels_of_posterior_plots_stand_in_their_pictures(posterior):
    labels = {"escs": "Status of the family", "math": "Mathematics score"}
    for name, options in (("trace", {"terms": "escs"}), ("rank", {"terms": "escs"}), ("priors", {"terms": "escs"})):
        plot = getattr(plots, name)(posterior, labels=labels, **options)
        assert labels["escs"] in written(plot) and "escs" not in written(plot), name
    plot = plots.posterior_predictive(posterior, draws=5, labels=labels)
    assert labels["math"] in written(plot)


def written(plot):
    """Every text of a picture."""
    return [text.get_text() for text in plot.get_viz("figure").findobj(matplotlib.text.Text)]


def test_densities():
    """Against scipy's kernel density with the same bandwidth, and the half-normal density, which ends at zero."""
    x, grid = np.random.default_rng(2).normal(size=4000), np.linspace(-3, 3, 601)
    spread = min(x.std(), np.subtract(*np.quantile(x, [0.75, 0.25])) / 1.349)
    expected = gaussian_kde(x, 0.9 * spread * 4000**-0.2 / x.std(ddof=1))(grid)
    close(density(x, grid), expected, atol=2e-3)  # bins of 0.01
    half = density(np.abs(x), np.linspace(0, 3, 301), bounds=(0.0, np.inf))
    close(half, 2 * norm.pdf(np.linspace(0, 3, 301)), atol=0.06, rtol=0)  # sampling error of 4000 draws
    w = np.where(x > 0, 3.0, 1.0)
    close(density(x, grid, w).sum() * 0.01, 1.0, atol=0.01)
    assert density(x, grid, w)[grid > 0].sum() > 2.5 * density(x, grid, w)[grid < 0].sum()


def test_priors(posterior):
    pc = plots.priors(posterior, terms=["escs", "sd(SCHOOLID.Intercept)"])
    one, draws = pc.data.sel(panel="escs"), posterior.idata["posterior"]["beta"].sel(term="escs")
    mass = np.trapezoid(one["posterior"], one["x"])
    close(mass, 1.0, atol=0.01)
    close(np.trapezoid(one["posterior"] * one["x"], one["x"]), draws.mean(), rtol=0.01)
    assert (one["x"].max() - draws.mean()) <= 8.01 * draws.std()
    assert pc.data["x"].sel(panel="sd(SCHOOLID.Intercept)").min() >= 0
    before = posterior.idata["prior"]["beta"].sel(term="escs").to_numpy()
    share = ((before > one["x"].min().item()) & (before < one["x"].max().item())).mean()
    close(np.trapezoid(one["prior"], one["x"]), share, atol=0.05)  # of 500 draws, smoothed
    assert list(plots.priors(posterior).data["panel"].values) == list(pmwmix.compare(posterior).index)


def test_posterior_predictive_of_numbers(posterior):
    y, w = np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0])
    data = curves_data(y, y[None], w, "ecdf")
    shares = [data["observed"].to_numpy()[0][data["x"].to_numpy()[0] <= at][-1] for at in (1.5, 2.5, 3.05)]
    close(shares, [0.25, 0.5, 1.0])
    table = survey(2).data
    pc = plots.posterior_predictive(posterior, kind="ecdf", draws=10, pv=2)
    x, share = (pc.data[name].to_numpy()[0] for name in ("x", "observed"))
    below = table["W_FSTUWT"][table["PV2MATH"] <= x[100]].sum() / table["W_FSTUWT"].sum()
    close(share[100], below)
    drawn = posterior.fits[1].idata["posterior_predictive"]["y"].to_numpy().reshape(-1, len(table))
    some = pc.data["drawn"].to_numpy()[0]
    assert some.shape[0] == 10
    w = table["W_FSTUWT"].to_numpy()
    close(some[0, 100], w[drawn[0] <= x[100]].sum() / w.sum())


def test_posterior_predictive_of_counts(logistic):
    drawn = np.array([[0, 1, 1, 5], [0, 0, 0, 1]])
    data = bars_data(np.array([0.0, 1.0, 1.0, 2.0]), drawn.astype(float), np.array([1.0, 1.0, 1.0, 2.0]), 0.5)
    assert data["bar"].values.tolist() == [0, 1, 2, 3, 4, 5]
    close(data["observed"], [[0.2, 0.4, 0.4, 0.0, 0.0, 0.0]])
    close(data["drawn"], [[0.4, 0.4, 0.0, 0.0, 0.0, 0.2]])
    close(data["low"], [[0.3, 0.4, 0.0, 0.0, 0.0, 0.1]])
    data = bars_data(np.arange(40.0), np.arange(40.0)[None], None, 0.9)
    assert data.attrs["more"]
    close(data["observed"].to_numpy()[0, [0, -1]], [1 / 40, 11 / 40])


# -- all of them ------------------------------------------------------------------------------------------------------

ALL = ("forest", "pv_spread", "weights", "effects", "trace", "rank", "priors", "posterior_predictive")


def call(name, fit, **options):
    more = {"variable": "escs", "newdata": survey().data} if name == "effects" else {}
    return getattr(plots, name)(fit, **more, **options)


@pytest.mark.parametrize("name", ALL)
def test_without_a_backend(name, weighted, posterior):
    bayes = name in ("trace", "rank", "priors", "posterior_predictive")
    assert call(name, posterior if bayes else weighted, backend="none").backend == "none"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("wrong", [{"backend": "gnuplot"}, {"figure_kwargs": {"wheels": 4}}])
def test_wrong_options_of_every_plot(name, wrong, weighted, posterior):
    bayes = name in ("trace", "rank", "priors", "posterior_predictive")
    with pytest.raises(pmwmix.PmwmixError, match=THREE_SENTENCES):
        call(name, posterior if bayes else weighted, **wrong)


@pytest.mark.parametrize(
    ("name", "options", "offender"),
    [
        ("forest", {"terms": "ecsc"}, "escs"),
        ("forest", {"split": "fit"}, "'fit'"),
        ("forest", {"ci_prob": 2}, "2"),
        ("pv_spread", {"terms": ["age"]}, "'age'"),
        ("pv_spread", {"ci_prob": 0}, "0"),
        ("weights", {"bins": 1}, "1"),
        ("effects", {"by": "escs"}, "'escs'"),
        ("effects", {"by": "sex"}, "'sex'"),
        ("effects", {"at": {"age": 3}}, "'age'"),
        ("effects", {"at": {"female": []}}, "empty"),
        ("effects", {"n_points": 1}, "1"),
        ("effects", {"ci_prob": 95}, "95"),
        ("effects", {"type": "latent"}, "'latent'"),
        ("trace", {"pv": 9}, "pv=9"),
        ("trace", {"terms": "age"}, "'age'"),
        ("rank", {"pv": 0}, "0"),
        ("priors", {"terms": "sd(SCHOOLID)"}, "sd(SCHOOLID)"),
        ("posterior_predictive", {"kind": "violin"}, "'violin'"),
        ("posterior_predictive", {"draws": 1}, "1"),
        ("posterior_predictive", {"pv": 7}, "pv=7"),
    ],
)
def test_wrong_arguments(name, options, offender, weighted, posterior):
    bayes = name in ("trace", "rank", "priors", "posterior_predictive")
    with pytest.raises(pmwmix.PmwmixError, match=THREE_SENTENCES) as caught:
        call(name, posterior if bayes else weighted, **options)
    assert offender in str(caught.value)


def test_plots_that_do_not_apply(weighted, unweighted, logistic):
    single = pmwmix.fit("y ~ x + (1 | school)", nested(), engine="python")
    for draw in (
        lambda: plots.pv_spread(single),
        lambda: plots.weights(single),
        lambda: plots.quadrature(single),
        lambda: plots.quadrature(pd.DataFrame({"a": [1]})),
        lambda: plots.forest(pd.DataFrame({"a": [1]})),
        lambda: plots.forest([single, logistic]),
        lambda: plots.effects(weighted, "escs", newdata=survey().data.drop(columns="escs")),
        *(lambda name=name: getattr(plots, name)(weighted) for name in ALL[4:]),
        *(lambda name=name: call(name, "fit") for name in ALL),
    ):
        with pytest.raises(pmwmix.PmwmixError, match=THREE_SENTENCES):
            draw()


def test_ratios_are_marked_by_round_numbers():
    d = survey().data.assign(passed=lambda t: 1.0 * (t["PV1MATH"] > 500))
    plot = pmwmix.plots.forest(pmwmix.fit("passed ~ escs + female", d, family="binomial"), exponentiate=True)
    figure = plot.viz["figure"].item()
    figure.canvas.draw()
    ax = figure.axes[0]
    low, high = ax.get_xlim()
    shown = [float(tick.get_text()) for tick in ax.get_xticklabels() if low <= tick.get_position()[0] <= high]
    assert len(shown) >= 3 and set(shown) <= {0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0}
