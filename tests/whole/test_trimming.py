"""Trimmed weights and named scales of the top level: identities with columns computed by hand, reports, refusals."""

import numpy as np
import pytest
from helpers import close, nested

import pmwmix
from pmwmix.errors import NotSupportedError, OptionError

MODEL = "y ~ x + (1 | school)"
WEIGHTS = {"weights": {"obs": "w1", "school": "w3"}, "conditional": True}


def test_trimming_is_a_fit_with_trimmed_columns(tmp_path):
    data, trim = nested(), {"school": 1.2, "obs": 1.5}
    fit = pmwmix.fit(MODEL, data, **WEIGHTS, scaling="size", trim=trim)
    by_school = data.groupby("school")["w3"].first()
    limits = {"w1": 1.5 * data["w1"].median(), "w3": 1.2 * by_school.median()}
    hand = data.assign(**{name: data[name].clip(upper=limit) for name, limit in limits.items()})
    same = pmwmix.fit(MODEL, hand, **WEIGHTS, scaling="size")
    assert fit.loglik == same.loglik and (fit.se == same.se).all()
    report = fit.trimming
    close(report["limit"], list(limits.values()), rtol=1e-12)
    assert report["n"].tolist() == [(data["w1"] > limits["w1"]).sum(), (by_school > limits["w3"]).sum()]
    assert report["of"].tolist() == [len(data), 14]
    close(report["sum_before"], [data["w1"].sum(), by_school.sum()])
    close(report["sum_after"], [hand["w1"].sum(), hand.groupby("school")["w3"].first().sum()])
    assert f"obs: {report['n']['obs']} of 161 at 2.041, 1.5 times the median" in " ".join(str(fit.summary()).split())
    assert pmwmix.load(fit.save(tmp_path / "fit.pmwmix")).trimming.equals(report)
    assert not len(same.trimming)
    everywhere = pmwmix.fit(MODEL, data, **WEIGHTS, trim=1e6)
    assert everywhere.trimming["n"].tolist() == [0, 0] and "0 of 14" in str(everywhere.summary())


def test_replicates_of_trimmed_weights_keep_them_trimmed():
    """One factor for all rows of a school: trimmed columns and replicate columns made from them give the same."""
    data, rng = nested(), np.random.default_rng(0)
    factors = [rng.choice([0.5, 1.5], 14)[data["school"]] for _ in range(8)]
    design = pmwmix.Design(replicate_weights="R{}", replicate_type="fay", fay=0.5)

    def fitted(w, **options):
        table = data.assign(w=w, **{f"R{k}": factor * w for k, factor in enumerate(factors)})
        return pmwmix.fit(MODEL, table, weights=["w", None], design=design, **options)

    found, hand = fitted(data["w1"], trim=1.2), fitted(data["w1"].clip(upper=1.2 * data["w1"].median()))
    assert found.settings.vcov == "replicate"
    close(found.se, hand.se, rtol=1e-10)


def test_numbers_of_surveys_trimweights():
    """survey 4.1.1, the table written by ``to_csv``; U = 1.5 times the median of w1.

    ``w <- weights(trimWeights(svydesign(~1, weights = ~w1, data = d), upper = U))``: 30 of 161 are cut, and what is cut
    is given to the others, 0.048568574477 each (pmwmix gives it to nobody). Then ``svyglm`` with ``pmin(w1, U)``.
    """
    fit = pmwmix.fit("y ~ x", nested(), weights="w1", trim=1.5)
    report = fit.trimming.loc["obs"]
    close(report["limit"], 2.04135892536, 1e-11)
    assert (report["n"], report["of"]) == (30, 161)
    close(report["sum_before"], 222.976539297, 1e-11)
    close(report["sum_before"] - report["sum_after"], 0.048568574477 * (161 - 30), 1e-10)
    close(fit.coef, [10.063526080403, 0.711716294315], 1e-11)
    close(fit.se, [0.296318979004, 0.131039817753], 1e-10)


def test_top_scales_beside_lme4_with_repeated_schools():
    """``lmer(y ~ x + (1 | g), REML = FALSE)`` of 27 schools, school s repeated 1 + s mod 3 times, with 314 rows."""
    loglik, se = -560.350727029, np.array([0.3253284831769, 0.0525575107575])
    data = nested().assign(k=lambda d: 1.0 + d["school"] % 3)
    for rule, factor in ((None, 1.0), ("mean1", 14 / 27), ("sum", 161 / 314)):
        fit = pmwmix.fit(MODEL, data, weights={"school": "k"}, conditional=True, weights_top=rule, vcov="model")
        close(fit.loglik, factor * loglik, 1e-11)
        close(fit.coef, [10.071123024217, 0.721398159319], 1e-10)
        close(fit.se, se / np.sqrt(factor), 1e-7)


@pytest.mark.parametrize("rule", ["mean1", "sum"])
def test_the_top_levels_scale(rule):
    data = nested()
    plain = pmwmix.fit(MODEL, data, **WEIGHTS, scaling="size")
    fit = pmwmix.fit(MODEL, data, **WEIGHTS, scaling="size", weights_top=rule)
    close(fit.coef, plain.coef, rtol=1e-9)
    close(fit.se, plain.se, rtol=1e-9)
    used = fit.weight_stats["used_sum"]
    if rule == "mean1":
        assert used["school"] == pytest.approx(14)
    else:
        members = data.groupby("school").size().to_numpy()  # conditional weights of a school sum to its size
        w3 = data.groupby("school")["w3"].first().to_numpy()
        assert used["school"] == pytest.approx(w3.sum() * len(data) / (members @ w3))
    ratio = used["school"] / plain.weight_stats["used_sum"]["school"]
    assert fit.loglik == pytest.approx(plain.loglik * ratio, rel=1e-10)
    assert f"({rule})" in str(fit.summary())
    flat = pmwmix.fit("y ~ x", data, weights="w1", weights_top=rule, vcov="model")
    hand = pmwmix.fit("y ~ x", data.assign(w1=data["w1"] / data["w1"].mean()), weights="w1", vcov="model")
    close(flat.se, hand.se, rtol=1e-10)


@pytest.mark.parametrize(
    ("formula", "options", "error", "said"),
    [
        (MODEL, {**WEIGHTS, "weights_top": "mean"}, OptionError, "weights_top='mean'.*Did you mean 'mean1'"),
        (MODEL, {"weights_top": "sum"}, OptionError, "needs weights.*weights_top='sum'"),
        (MODEL, {**WEIGHTS, "trim": 0.5}, OptionError, "a number above 1.*trim=0.5"),
        (MODEL, {**WEIGHTS, "trim": True}, OptionError, "a number above 1.*trim=True"),
        (MODEL, {**WEIGHTS, "trim": {}}, OptionError, "a number above 1"),
        (MODEL, {**WEIGHTS, "trim": {"school": "3"}}, OptionError, "a number above 1"),
        (MODEL, {**WEIGHTS, "trim": {"pupil": 3.0}}, OptionError, "at levels that have some. Got 'pupil'"),
        (MODEL, {"trim": 3.0}, OptionError, "Trimming is for sampling weights"),
        (f"{MODEL} + (1 | f)", {"weights": "w1", "weights_top": "sum"}, NotSupportedError, "have no top level"),
        (
            MODEL,
            {**WEIGHTS, "trim": 3.0, "method": "pairwise"},
            NotSupportedError,
            "Got trim=3.0 with method='pairwise'",
        ),
    ],
)
def test_what_cannot_be_says_so(formula, options, error, said):
    with pytest.raises(error, match=said):
        pmwmix.fit(formula, nested().assign(f=lambda d: np.arange(len(d)) % 5), **options)
