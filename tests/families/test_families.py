"""Every family with each of its links: densities against scipy, derivatives, moments, draws, and bad outcomes.

A family or a link that is new joins all tests but those against scipy by itself; for these it needs an entry in
`LOG_DENSITY` or `DISTRIBUTION`.
"""

import functools
from types import SimpleNamespace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import close
from scipy import special, stats

from pmwmix.errors import DataError
from pmwmix.families import FAMILIES, Outcome, Response
from pmwmix.families._rising import LogRising
from pmwmix.likelihood.engine import ENGINES
from pmwmix.likelihood.ops.registry import teach
from pmwmix.links import LINKS, ProbabilityLink
from pmwmix.links._curves import Curve

CATEGORIES = 'multinomial["0", "1", "2", "3"]'
THRESHOLDS = 'cumulative(thresholds)["0", "1", "2", "3"]'
MODELLED = (
    "gaussian(sigma)",
    "gamma(phi)",
    "hurdle-negbinomial(theta)",
    CATEGORIES,
    THRESHOLDS,
)  # with predictors of their own
CLOSED = [name for name, family in FAMILIES.items() if not family.is_open]  # the others wait for an outcome
PAIRS = [(family, link) for family in (*CLOSED, *MODELLED) for link in FAMILIES[family].links]
SEVERAL = [family for family in (*CLOSED, *MODELLED) if FAMILIES[family].further]
EVERY = pytest.mark.parametrize("pair", PAIRS, ids="-".join)
PROBABILITY = [name for name, link in LINKS.items() if isinstance(link, ProbabilityLink)]
DISTRIBUTION = {
    "logit": stats.logistic,
    "probit": stats.norm,
    "cloglog": stats.gumbel_l,
    "loglog": stats.gumbel_r,
    "cauchit": stats.cauchy,
}
PHI = {  # two ordinary values of the further parameters, after those of the further linear predictors
    "beta-binomial": ([1.0], [3.0]),
    "zero-inflated-poisson": ([-0.5], [1.2]),
    "zero-inflated-negbinomial": ([-0.5, 0.5], [1.2, 2.0]),
    "hurdle-poisson": ([-0.5], [1.2]),
    "hurdle-negbinomial": ([-0.5, 0.5], [1.2, 2.0]),
    "hurdle-negbinomial(theta)": ([-0.5, 0.5], [1.2, 2.0]),
    "gaussian(sigma)": ([0.4], [-0.7]),
    "gamma(phi)": ([-0.3], [-3.0]),
    "lognormal": ([-0.6], [-1.2]),
    "adjacent": ([-1.0, 0.4, 0.2], [0.4, -0.1, 1.0]),
    "sequential": ([-1.0, 0.4, 0.2], [0.4, -0.1, 1.0]),
    CATEGORIES: ([0.4, -0.6], [-1.5, 2.0]),
    THRESHOLDS: ([0.3, -0.2, 0.1, -1.0, 0.4, 0.9], [0.4, 0.1, 1.0, 0.0, 0.6, 1.4]),
    "negbinomial": ([0.5], [2.0]),
    "gamma": ([0.3], [3.0]),
    "beta": ([1.0], [3.0]),
    "cumulative": ([-1.0, 0.2, -1.5], [0.4, -0.5, 1.0]),
    "student": ([0.4, 1.6], [-0.5, 4.0]),
    "gaussian": ([0.4], [-0.7]),
    "tweedie": ([0.3, 0.2], [-1.5, -1.0]),
}
POSITIVE = {"sqrt": (0.3, 30.0), "inverse": (0.3, 30.0)}  # links whose eta is positive
BLOCK = 512
FAR = np.array([-800.0, -745.2, -300.0, -37.0, -5.0, -1e-9, 0.0, 1e-9, 1.0, 20.0, 49.9, 50.1, 300.0, 709.8, 800.0])


def phis(family):
    return [np.array(phi) for phi in PHI.get(family, ([],))]


def links_of(family, link):
    """The link of every predictor."""
    return [LINKS[link], *(LINKS[one.links[0]] for one in FAMILIES[family].further)]


def apart(family, eta, phi):
    """Linear predictors and further parameters, of ``phi`` as `PHI` has it: the former come first."""
    m = len(FAMILIES[family].further)
    others = [np.full(np.shape(eta), value) for value in phi[:m]] if isinstance(eta, np.ndarray) else [*phi[:m]]
    return [eta, *others], phi[m:]


def drawn(family, link, rng, eta, phi, extra):
    etas, rest = apart(family, eta, phi)
    return FAMILIES[family].draw_of(rng, links_of(family, link), etas, rest, extra)


def mean_at(family, link, eta, phi):
    etas, rest = apart(family, eta, phi)
    return FAMILIES[family].mean_of(links_of(family, link), etas, rest)


def range_of(link, n=25, most=30.0):
    low, high = POSITIVE.get(link, (-most, most))
    return np.linspace(low, min(high, most), n)


def compiled(family, link, engine="jax"):
    return _compiled(family, link, engine)


@functools.cache
def _compiled(family, link, engine):
    """Value, four derivatives in eta (two without JAX), gradient and Hessian of the sum in phi, mixed derivative.

    The last two take long to compile with JAX: there they are left out but for each family's first link.
    """
    teach("jax")
    f = FAMILIES[family]
    y, eta, phi, w = pt.dvector("y"), pt.dvector("eta"), pt.dvector("phi"), pt.dvector("w")
    extra = tuple(pt.dvector(f"extra{i}") for i in range(f.n_extra))
    etas, rest = apart(family, eta, [phi[i] for i in range(len(phis(family)[0]))])
    value = f.log_density_of(links_of(family, link), y, extra, etas, rest)

    def slope(of, by):
        return pytensor.grad(pt.sum(of), by, disconnected_inputs="ignore")

    orders = [value]
    for _ in range(4 if engine == "jax" else 2):
        orders.append(slope(orders[-1], eta))
    outputs = [*orders, slope(w * value, phi)]
    if engine == "python" or link == f.links[0]:
        second = [slope(outputs[-1][i], phi) for i in range(len(phis(family)[0]))]
        outputs += [pt.stack(second) if second else phi, slope(w * orders[2], phi)]
    inputs = [w, y, *extra, eta, phi]
    run = pytensor.function(inputs, outputs, mode=ENGINES[engine](), on_unused_input="ignore", trust_input=True)

    def call(response, at, phi):
        """In blocks of one size, so that each graph is compiled once."""
        n, found = len(response.y), []
        for start in range(0, n, BLOCK):
            take = np.minimum(np.arange(start, start + BLOCK), n - 1)
            block = [np.asarray(a, float)[take] for a in (response.y, *response.extra, at)]
            inside = (np.arange(start, start + BLOCK) < n).astype(float)
            found.append([np.asarray(a) for a in run(inside, *block, np.asarray(phi, float))])
        d = np.array([np.concatenate(parts)[:n] for parts in list(zip(*found, strict=True))[: len(orders)]])
        sums = [sum(parts) for parts in list(zip(*found, strict=True))[len(orders) :]]
        return SimpleNamespace(d=d, **dict(zip(("gradient", "hessian", "mixed"), sums, strict=False)))

    return call


def outcome(family, values, **kinds):
    """An outcome as the table would give it: the families of trials get seven each."""
    values = np.asarray(values, float)
    if FAMILIES[family].per_trial and "failures" not in kinds:
        kinds["failures"] = 7.0 - values
    return Outcome("y", values, **kinds)


@functools.cache
def some_values(family):
    """Distinct values that the family itself draws, from its middle to its tails, as it reads them."""
    f = FAMILIES[family]
    rng = np.random.default_rng(8)
    eta, extra = np.repeat([-1.0, 0.0, 1.5], 400), tuple(np.full(1200, 7.0) for _ in range(f.n_extra))
    values = np.unique(drawn(family, f.links[0], rng, eta, phis(family)[0], extra))
    return f.read(outcome(family, values[np.linspace(0, len(values) - 1, min(8, len(values))).astype(int)]))


def rows(response, eta):
    """Repeat every value at every eta."""
    k, n = len(eta), len(response.y)
    repeated = SimpleNamespace(
        y=np.tile(response.y, k),
        extra=tuple(np.tile(e, k) for e in response.extra),
        constant=np.tile(response.constant, k),
    )
    return repeated, np.repeat(eta, n)


# -- densities ---------------------------------------------------------------------------------------------------------


def of_binomial(link, y, extra, eta, phi):
    F, n = DISTRIBUTION[link], extra[0]
    coefficient = special.gammaln(n + 1) - special.gammaln(y + 1) - special.gammaln(n - y + 1)
    return y * F.logcdf(eta) + (n - y) * F.logsf(eta) + coefficient


def of_negbinomial(link, y, extra, eta, phi):
    mu, theta = LINKS[link].mean(eta), np.exp(phi[0])
    rising = special.gammaln(y + theta) - special.gammaln(theta) - special.gammaln(y + 1)
    return rising + special.xlogy(y, mu) - y * np.log(theta + mu) - theta * np.log1p(mu / theta)


def of_cumulative(link, y, extra, eta, phi):
    tau = np.concatenate([[-np.inf], phi[0] + np.concatenate([[0.0], np.cumsum(np.exp(phi[1:]))]), [np.inf]])
    lower, upper = tau[y.astype(int)] - eta, tau[y.astype(int) + 1] - eta
    F = DISTRIBUTION[link]
    return np.log(np.where(lower + upper > 0, F.sf(lower) - F.sf(upper), F.cdf(upper) - F.cdf(lower)))


def of_thresholds(link, y, extra, eta, phi):
    tau = np.concatenate([[-np.inf], np.asarray(phi[3:]) + phi[:3], [np.inf]])
    lower, upper = tau[y.astype(int)] - eta, tau[y.astype(int) + 1] - eta
    F = DISTRIBUTION[link]
    return np.log(np.where(lower + upper > 0, F.sf(lower) - F.sf(upper), F.cdf(upper) - F.cdf(lower)))


def of_beta(link, y, extra, eta, phi):
    F, precision = DISTRIBUTION[link], np.exp(phi[0])
    a, b = precision * F.cdf(eta), precision * F.sf(eta)
    return (a - 1) * np.log(y) + (b - 1) * np.log1p(-y) - special.betaln(a, b)


def of_beta_binomial(link, y, extra, eta, phi):
    F, size = DISTRIBUTION[link], np.exp(phi[0])
    return stats.betabinom.logpmf(y, extra[0], size * F.cdf(eta), size * F.sf(eta))


def of_counts(link, y, eta, phi):
    if not len(phi):
        return stats.poisson.logpmf(y, LINKS[link].mean(eta))
    return of_negbinomial(link, y, (), eta, phi)


def of_zero_inflated(link, y, extra, eta, phi):
    counts = special.log_expit(-phi[0]) + of_counts(link, y, eta, phi[1:])
    return np.where(y == 0, np.logaddexp(special.log_expit(phi[0]), counts), counts)


def of_hurdle(link, y, extra, eta, phi):
    log_zero = of_counts(link, 0.0 * y, eta, phi[1:])
    above = special.log_expit(-phi[0]) + of_counts(link, y, eta, phi[1:]) - np.log(-np.expm1(log_zero))
    return np.where(y == 0, special.log_expit(phi[0]), above)


def of_categories(link, y, extra, eta, phi):
    every = np.column_stack([0.0 * eta, eta, *(np.full(len(eta), part) for part in phi)])
    return np.take_along_axis(special.log_softmax(every, axis=1), y.astype(int)[:, None], axis=1)[:, 0]


def of_adjacent(link, y, extra, eta, phi):
    scores = np.arange(len(phi) + 1) * eta[:, None] - np.concatenate([[0.0], np.cumsum(phi)])
    return np.take_along_axis(special.log_softmax(scores, axis=1), y.astype(int)[:, None], axis=1)[:, 0]


def of_sequential(link, y, extra, eta, phi):
    F, steps = DISTRIBUTION[link], np.arange(len(phi))
    at = phi - eta[:, None]
    passed = np.where(steps < y[:, None], F.logsf(at), 0.0).sum(axis=1)
    return passed + np.where(steps == y[:, None], F.logcdf(at), 0.0).sum(axis=1)


def of_tweedie(link, y, extra, eta, phi):
    """Brute force: a Poisson number of gamma amounts, one number after the other."""
    d, p = np.exp(phi[0]), 1.01 + 0.98 * special.expit(phi[1])
    mu = np.exp(eta)[:, None]
    jumps, N = mu ** (2 - p) / (d * (2 - p)), np.arange(1, 400)
    scale = d * (p - 1) * mu ** (p - 1)
    each = stats.poisson.logpmf(N, jumps) + stats.gamma.logpdf(y[:, None], N * (2 - p) / (p - 1), scale=scale)
    return np.where(y == 0, -jumps[:, 0], special.logsumexp(each, axis=1))


LOG_DENSITY = {
    "tweedie": of_tweedie,
    "adjacent": of_adjacent,
    "sequential": of_sequential,
    CATEGORIES: of_categories,
    "beta-binomial": of_beta_binomial,
    "truncated-poisson": lambda link, y, extra, eta, phi: (
        of_counts(link, y, eta, phi) - np.log(-np.expm1(-np.exp(eta)))
    ),
    **dict.fromkeys(("zero-inflated-poisson", "zero-inflated-negbinomial"), of_zero_inflated),
    **dict.fromkeys(("hurdle-poisson", "hurdle-negbinomial", "hurdle-negbinomial(theta)"), of_hurdle),
    "gaussian(sigma)": lambda link, y, extra, eta, phi: LOG_DENSITY["gaussian"](link, y, extra, eta, phi),
    "gamma(phi)": lambda link, y, extra, eta, phi: LOG_DENSITY["gamma"](link, y, extra, eta, [-phi[0]]),
    "binomial": of_binomial,
    "lognormal": lambda link, y, extra, eta, phi: stats.lognorm.logpdf(y, np.exp(phi[0]), scale=np.exp(eta)),
    "poisson": lambda link, y, extra, eta, phi: stats.poisson.logpmf(y, LINKS[link].mean(eta)),
    "negbinomial": of_negbinomial,
    "gamma": lambda link, y, extra, eta, phi: stats.gamma.logpdf(
        y, np.exp(phi[0]), scale=LINKS[link].mean(eta) / np.exp(phi[0])
    ),
    "beta": of_beta,
    "cumulative": of_cumulative,
    THRESHOLDS: of_thresholds,
    "student": lambda link, y, extra, eta, phi: stats.t.logpdf(y, 1 + np.exp(phi[1]), eta, np.exp(phi[0])),
    "gaussian": lambda link, y, extra, eta, phi: stats.norm.logpdf(y, LINKS[link].mean(eta), np.exp(phi[0])),
}


@EVERY
@pytest.mark.parametrize("engine", ["jax", "python"])
def test_density_agrees_with_scipy(pair, engine):
    """To 1e-10, scipy's own error; narrower where scipy's distribution function runs out of digits."""
    family, link = pair
    most = {"cumulative": 15.0, THRESHOLDS: 15.0, "beta": 20.0, "beta-binomial": 15.0, "tweedie": 8.0}.get(family, 30.0)
    most = 2.0 if link in {"cloglog", "loglog"} and family != "binomial" else most
    response, eta = rows(some_values(family), range_of(link, most=most))
    for phi in phis(family):
        got = compiled(family, link, engine)(response, eta, phi).d[0] + response.constant
        close(got, LOG_DENSITY[family](link, response.y, response.extra, eta, phi), 1e-10, 1e-11)


def test_negbinomial_agrees_with_scipy_and_tends_to_poisson():
    """scipy loses digits in log-gammas of theta; the expansion in 1/theta does not: ((y - mu)² - y) / (2 theta)."""
    response, eta = rows(FAMILIES["negbinomial"].read(Outcome("y", np.arange(12.0))), np.linspace(-3, 3, 9))
    mu = np.exp(eta)
    poisson = stats.poisson.logpmf(response.y, mu)
    for theta in (0.1, 3.0, 1e3, 1e6, 1e8, 1e14, 1e30):
        at = compiled("negbinomial", "log")(response, eta, [np.log(theta)])
        got = at.d[0] + response.constant
        if theta <= 1e8:
            expected = stats.nbinom.logpmf(response.y, theta, theta / (theta + mu))
            close(got, expected, 1e-10, 1e-15 * theta * max(1.0, np.log(theta)) + 1e-11)
        if theta >= 1e6:
            correction = ((response.y - mu) ** 2 - response.y) / (2 * theta)
            close(got - poisson, correction, 1e-4, 2e-13)
            close(at.gradient[0], -correction.sum(), 1e-3, 1e-11)


def test_tweedie_keeps_its_digits_for_small_and_large_dispersions():
    """Brute force over the jumps that count, in the numbers of scipy; the saddlepoint (Dunn & Smyth 2005) far out."""
    y, eta = np.array([0.0, 1e-3, 0.4, 2.0, 30.0, 1e5]), np.log([2.0, 2e-3, 0.4, 1.5, 33.0, 1.01e5])
    f = FAMILIES["tweedie"]
    response = f.read(Outcome("y", y))
    for p in (1.02, 1.5, 1.97):
        logit = special.logit((p - 1.01) / 0.98)
        for log_d in (-2.0, 2.0, 9.0):
            got = compiled("tweedie", "log", "python")(response, eta, [log_d, logit])
            expected = of_tweedie("log", y, (), eta, [log_d, logit])
            jumps = (y ** (2 - p) / (np.exp(log_d) * (2 - p)))[1:]
            seen = np.append(True, jumps < 300)  # scipy's sum has 400 terms
            close((got.d[0] + response.constant)[seen], expected[seen], 1e-10, 1e-11)
        d = 1e-10
        at = compiled("tweedie", "log", "python")(response, np.log(np.maximum(y, 1.0)), [np.log(d), logit])
        saddle = -0.5 * np.log(2 * np.pi * d * y[1:] ** p)
        shown = y[1:] >= 1.0  # there the mean is y; the error of the saddlepoint is some dispersion
        close((at.d[0] + response.constant)[1:][shown], saddle[shown], 1e-9)


def test_sum_over_jumps_is_one_function_across_its_methods():
    """All derivatives by sum and by integral, at the border of both and above."""
    from pmwmix.families._compound import JumpSum, border, integrated, most_jumps, summed

    b = np.array([0.0102, 0.3, 1.0, 4.0, 99.0])
    u = border(np, b) + np.array([[0.0], [0.4]])
    for order in range(5):
        for at in u:
            few = summed(np, special, at, b, order, np.arange(1.0, most_jumps(at.max(), 0.01) + 1.0))
            many = integrated(np, special, at, b, order)
            size = ((1.0 + b) * np.sqrt(np.exp(at) / (1.0 + b))) ** order  # of what cancels in the sum
            assert (np.abs(np.subtract(few, many)) <= 1e-9 * np.abs(many) + 1e-9 + 1e-13 * size).all()
    with pytest.raises(NotImplementedError, match="order 5"):
        JumpSum(5)


def test_student_tends_to_the_normal_density():
    response, eta = rows(FAMILIES["student"].read(Outcome("y", np.linspace(-4, 6, 9))), np.linspace(-3, 3, 5))
    normal = stats.norm.logpdf(response.y, eta, np.exp(0.3))
    z = (response.y - eta) / np.exp(0.3)
    for above in (1e5, 1e8, 1e12, 1e25):
        at = compiled("student", "identity")(response, eta, [0.3, np.log(above)])
        correction = (z**4 - 2 * z**2 - 1) / (4 * (1 + above))  # first term of the expansion in 1 / df
        close(at.d[0] + response.constant, normal + correction, 1e-13, 1e-13 + z.max() ** 6 / above**2)
        close(at.gradient[1], -correction.sum(), 1e-2, 1e-10)


def test_gamma_with_a_large_shape_keeps_its_digits():
    """In the limit log y is normal with variance 1 / shape, but for terms in 1 / sqrt(shape)."""
    shape = 1e12
    response = FAMILIES["gamma"].read(Outcome("y", 2.0 * np.exp(np.linspace(-3, 3, 7) / np.sqrt(shape))))
    got = compiled("gamma", "log")(response, np.full(7, np.log(2.0)), [np.log(shape)]).d[0] + response.constant
    expected = stats.norm.logpdf(np.log(response.y), np.log(2.0), shape**-0.5) - np.log(response.y)
    close(got, expected, 1e-4)


@EVERY
def test_density_sums_to_one(pair):
    family, link = pair
    f, phi = FAMILIES[family], phis(family)[0]
    at = float(LINKS[link].eta(np.array([0.3 if link in PROBABILITY else 1.7]))[0])
    grid = np.linspace(-30.0, 30.0, 10_001)
    support = {  # values and the weight of each in the sum
        "binomial": (np.arange(8.0), 1.0),
        "poisson": (np.arange(200.0), 1.0),
        "negbinomial": (np.arange(500.0), 1.0),
        "cumulative": (np.arange(4.0), 1.0),
        "gamma": (np.exp(grid / 2), np.exp(grid / 2) * 0.003),
        "beta": (special.expit(grid), special.expit(grid) * special.expit(-grid) * 0.006),
        "student": (np.sinh(grid), np.cosh(grid) * 0.006),
        "gaussian": (grid, 0.006),
        "tweedie": (np.append(np.exp(grid), 0.0), np.append(np.exp(grid) * 0.006, 1.0)),
    }
    support["lognormal"] = support["gamma"]
    support["adjacent"] = support["sequential"] = support[THRESHOLDS] = support["cumulative"]
    support["beta-binomial"], support[CATEGORIES] = support["binomial"], support["cumulative"]
    support |= {name: support["negbinomial"] for name in FAMILIES if name.startswith(("zero-inflated", "hurdle"))}
    support["truncated-poisson"] = (np.arange(1.0, 200.0), 1.0)
    values, weight = support[family.partition("(")[0]]
    response = f.read(outcome(family, values))
    log_f = compiled(family, link)(response, np.full(len(values), at), phi).d[0] + response.constant
    close(np.sum(np.exp(log_f) * weight), 1.0, 1e-7)


# -- derivatives -------------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("engine", ["jax", "python"])
def test_finite_far_out(pair, engine):
    """Value and derivatives are finite for any eta up to 800, and the slope points where the value rises."""
    family, link = pair
    response, eta = rows(some_values(family), FAR)
    run = compiled(family, link, engine)
    for phi in phis(family):
        at = run(response, eta, phi)
        for part in vars(at).values():
            assert np.isfinite(part).all()
        for sign in (-1.0, 1.0):
            ends, middle = run(*rows(some_values(family), sign * np.array([700.0, 720.0])), phi).d[0], sign * 710.0
            rise = sign * (ends[len(ends) // 2 :] - ends[: len(ends) // 2]) / 20.0
            slope = run(*rows(some_values(family), np.array([middle])), phi).d[1]
            close(slope, rise, 1e-2, 1e-12)


@EVERY
def test_derivatives_in_eta(pair):
    """Each order against central differences of the one below, of fourth order in steps of h."""
    family, link = pair
    response, eta = rows(some_values(family), range_of(link, 41))
    run = compiled(family, link)
    h = 1e-3
    for phi in phis(family):
        exact = run(response, eta, phi).d
        at = {k: run(response, eta + k * h, phi).d for k in (-2, -1, 1, 2)}
        numeric = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)
        for order in range(1, 5):
            allowed = 1e-6 * np.abs(exact[order]) + 2e-9 + 1e-9 * np.abs(exact[order - 1])  # the last for round-off
            worst = np.argmax(np.abs(exact[order] - numeric[order - 1]) / allowed)
            close(exact[order][worst], numeric[order - 1][worst], atol=allowed[worst])


@pytest.mark.parametrize("family", SEVERAL)
def test_derivatives_along_the_further_predictors(family):
    """To the fourth order, as `test_derivatives_in_eta`, and mixed ones; finite far out."""
    f, phi = FAMILIES[family], phis(family)[0]
    m = len(f.further)
    links, values = links_of(family, f.links[0]), some_values(family)
    y, etas = pt.dvector(), [pt.dvector() for _ in range(m + 1)]
    extra = tuple(pt.dvector() for _ in range(f.n_extra))
    value = f.log_density_of(links, y, extra, etas, [pt.constant(part) for part in phi[m:]])
    h = 1e-3
    for k in range(1, m + 1):
        orders = [value]
        for _ in range(4):
            orders.append(pytensor.grad(pt.sum(orders[-1]), etas[k], disconnected_inputs="ignore"))
        mixed = pytensor.grad(pt.sum(orders[1]), etas[0], disconnected_inputs="ignore")
        slope = pytensor.grad(pt.sum(value), etas[0])
        outputs = [*orders, mixed, slope]
        run = pytensor.function([y, *extra, *etas], outputs, mode=ENGINES["python"](), on_unused_input="ignore")

        def at(move, main=0.3, grid=range_of("identity", 13, 6.0), run=run, k=k):  # noqa: B008
            repeated, moved = rows(values, grid)
            others = [np.full(len(moved), part) for part in (main, *phi[:m])]
            others[k] = moved + move
            return np.array(run(repeated.y, *repeated.extra, *others))

        exact, steps = at(0.0), {j: at(j * h) for j in (-2, -1, 1, 2)}
        numeric = (8 * (steps[1] - steps[-1]) - (steps[2] - steps[-2])) / (12 * h)
        for order in range(1, 5):
            close(exact[order], numeric[order - 1], 1e-6, 2e-9 + 1e-9 * np.abs(exact[order - 1]).max())
        close(exact[5], numeric[6], 1e-6, 1e-8)
        for main in (-30.0, 30.0):
            assert np.isfinite(at(0.0, main, FAR)).all()


@EVERY
def test_derivatives_in_phi(pair):
    family, link = pair
    response, eta = rows(some_values(family), range_of(link, 9, 5.0))
    run = compiled(family, link, "python")
    for phi in phis(family):
        exact = run(response, eta, phi)
        for i in range(len(phi)):
            step = 1e-4 * np.eye(len(phi))[i]
            up, down = run(response, eta, phi + step), run(response, eta, phi - step)
            size = 1.0 + np.abs(exact.d[0]).sum()
            close(exact.gradient[i], (up.d[0] - down.d[0]).sum() / 2e-4, 1e-6, 1e-8 * size)
            close(exact.hessian[i], (up.gradient - down.gradient) / 2e-4, 1e-6, 1e-8 * size)
            close(exact.mixed[i], (up.d[2] - down.d[2]).sum() / 2e-4, 1e-6, 1e-8 * size)


@EVERY
def test_engines_agree(pair):
    family, link = pair
    response, eta = rows(some_values(family), range_of(link))
    for phi in phis(family):
        jax, python = compiled(family, link)(response, eta, phi), compiled(family, link, "python")(response, eta, phi)
        close(python.d, jax.d[:3], 1e-9, 1e-11)
        for name in vars(jax).keys() - {"d"}:
            close(getattr(python, name), getattr(jax, name), 1e-9, 1e-9)


@EVERY
@pytest.mark.parametrize("size", [-30.0, 30.0])
def test_finite_at_extreme_parameters(pair, size):
    """Where an optimiser may pass: one parameter after the other very small or very large."""
    family, link = pair
    response, eta = rows(some_values(family), range_of(link, 9, 10.0))
    for i in range(len(phis(family)[0])):
        phi = np.where(np.arange(len(phis(family)[0])) == i, size, 0.0)
        for part in vars(compiled(family, link)(response, eta, phi)).values():
            assert np.isfinite(part).all()


@pytest.mark.parametrize("engine", ["jax", "numba"])
def test_curves_on_every_engine(engine):
    """The Ops behind the links: numpy's answers, with the highest derivative."""
    x = pt.dmatrix()
    curves = [kind(order)(x) for kind in Curve.__subclasses__() for order in (0, kind.highest)]
    curves += [LogRising(order)(0.5 * x - 10.0, pt.ceil(x)) for order in (0, 2)]
    at = np.linspace(0.01, 30.0, 12).reshape(3, 4)
    got, expected = (
        pytensor.function([x], curves, mode=ENGINES[name](), trust_input=True)(at) for name in (engine, "python")
    )
    close(got, expected, 1e-11)


def test_rising_factorials_are_sums_of_logarithms():
    """log gamma(t + y) - log gamma(t) - y log t = Σ log(1 + j / t), j = 0 ... y - 1, with four derivatives in log t."""
    s, y = np.meshgrid([-30.0, -2.0, 0.0, 1.9, 2.0, 5.0, 12.0, 30.0, 60.0], [0.0, 1.0, 2.0, 7.0, 60.0])
    summands = [-np.arange(n) / (np.exp(a) + np.arange(n)) for a, n in zip(s.ravel(), y.ravel(), strict=True)]
    p = [one[1:] for one in summands]  # the derivative of log(1 + j / t) is minus j / (t + j)
    by_hand = [
        [np.log1p(np.arange(1, n) * np.exp(-a)).sum() for a, n in zip(s.ravel(), y.ravel(), strict=True)],
        [q.sum() for q in p],
        [-(q * (1 + q)).sum() for q in p],
        [(q * (1 + q) * (1 + 2 * q)).sum() for q in p],
        [-(q * (1 + q) * (1 + 6 * q * (1 + q))).sum() for q in p],
    ]
    for order, expected in enumerate(by_hand):
        got = LogRising(order).formula(np, special, s, y).ravel()
        assert np.max(np.abs(got - expected) / np.maximum(y.ravel(), 1.0)) < (1e-13, 1e-13, 1e-12, 1e-11, 1e-10)[order]


# -- numpy side --------------------------------------------------------------------------------------------------------


@EVERY
def test_moments_agree_with_draws(pair):
    """Within five standard errors of 40000 draws."""
    family, link = pair
    f, phi, n = FAMILIES[family], phis(family)[0] if family != "student" else np.array([0.4, 2.5]), 40_000
    links = links_of(family, link)
    eta = np.full(n, float(LINKS[link].eta(np.array([0.35 if link in PROBABILITY else 2.2]))[0]))
    extra = tuple(np.full(n, 7.0) for _ in range(f.n_extra))
    y = drawn(family, link, np.random.default_rng(11), eta, phi, extra)
    mean = mean_at(family, link, eta, phi)
    variance = f.variance_of(links, *apart(family, eta, phi), extra)[0]
    trials = 7.0 if f.per_trial else 1.0
    expected = mean[0] * trials if mean.ndim == 1 else mean[0] @ np.arange(mean.shape[1])
    assert abs(y.mean() - expected) < 5 * np.sqrt(variance / n)
    assert abs(y.var() - variance) < 5 * np.sqrt(np.var((y - expected) ** 2) / n)
    if mean.ndim == 2:
        close(mean.sum(axis=1), 1.0, 1e-12)
        shares = np.bincount(y.astype(int), minlength=mean.shape[1]) / n
        assert (np.abs(shares - mean[0]) < 5 * np.sqrt(mean[0] * (1 - mean[0]) / n)).all()


@pytest.mark.parametrize("labels", ["ab", "abcd"])
def test_derivatives_of_a_mean(labels):
    """Those that a family gives, against central differences; with two categories the binomial ones."""
    f = FAMILIES[f"multinomial{[*labels]}".replace("'", '"')]
    rng, K = np.random.default_rng(3), len(labels) - 1
    links, etas, h = [LINKS["logit"]] * K, rng.normal(size=(K, 9)), 1e-5
    mean, slopes, second = f.mean_derivatives(links, etas, True)
    close(mean, f.mean_of(links, etas, np.zeros(0)), 1e-14)
    close(f.mean_derivatives(links, etas, False)[1], slopes, 1e-14)
    for k, step in enumerate(h * np.eye(K)[:, :, None]):
        (up, steep), (down, flat) = (f.mean_derivatives(links, etas + s, False) for s in (step, -step))
        close(slopes[:, :, k], (up - down) / (2 * h), 1e-8, 1e-10)
        close(second[:, :, :, k], (steep - flat) / (2 * h), 1e-8, 1e-10)
    if K == 1:
        close(mean[:, 1], links[0].mean(etas[0]), 1e-14)
        close(slopes[:, 1, 0], links[0].slope(etas[0]), 1e-13)


@EVERY
def test_deviance_measures_distance_from_the_mean(pair):
    family, link = pair
    f, response, phi = FAMILIES[family], some_values(family), phis(family)[0]
    if f.is_mixture:
        return
    eta = np.full(len(response.y), 0.8)
    mean, (etas, rest) = mean_at(family, link, eta, phi), apart(family, eta, phi)
    assert (f.deviance_of(links_of(family, link), response.y, etas, rest, response.extra) >= 0.0).all()
    if mean.ndim == 1 and not f.further:
        own = response.y / (response.extra[0] if f.per_trial else 1.0)
        own = np.where((own == 0.0) & (family != "student"), 1e-12 if family != "tweedie" else 1e-30, own)
        close(f.deviance(response.y, own, phi, response.extra), 0.0, atol=1e-9)


@pytest.mark.parametrize("family", (*CLOSED, *MODELLED))
def test_parameters_and_their_jacobian(family):
    f = FAMILIES[family]
    for phi in (phi[len(f.further) :] for phi in phis(family)):
        named, jacobian = f.parameters(phi)
        assert jacobian.shape == (len(named), len(phi))
        assert list(named) == {
            "negbinomial": ["theta"],
            "gamma": ["dispersion"],
            "beta": ["precision"],
            "student": ["sigma", "df"],
            "gaussian": ["sigma"],
            "lognormal": ["sigma"],
            "tweedie": ["dispersion", "power"],
            "beta-binomial": ["phi"],
            "zero-inflated-negbinomial": ["theta"],
            "hurdle-negbinomial": ["theta"],
            **{name: ["1|2", "2|3", "3|4"] for name in ("adjacent", "cumulative", "sequential", THRESHOLDS)},
        }.get(family, [])
        for i in range(len(phi)):
            step = 1e-5 * np.eye(len(phi))[i]
            up, down = (np.array(list(f.parameters(phi + s)[0].values())) for s in (step, -step))
            close(jacobian[:, i], (up - down) / 2e-5, 1e-8, 1e-9)


@EVERY
def test_start_is_better_than_chance(pair):
    """Finite, and a pull towards the own outcome: the log-density is higher than at everyone's mean."""
    family, link = pair
    f, phi = FAMILIES[family], phis(family)[0]
    rng = np.random.default_rng(4)
    eta = LINKS[link].eta(np.full(300, 0.4 if link in PROBABILITY else 2.0))
    extra = tuple(np.full(300, 7.0) for _ in range(f.n_extra))
    response = f.read(outcome(family, drawn(family, link, rng, eta, phi, extra)))
    w = rng.uniform(0.5, 3.0, 300)
    (start, *others), rest = f.starts(links_of(family, link), response, w)
    if not f.is_categorical:
        assert all((other == other[0]).all() for other in others)
    phi = np.concatenate([[other[0] for other in others], rest])
    assert rest.shape == (f.n_phi(response),)
    assert start.shape == (300,)
    assert np.isfinite(start).all()
    assert np.isfinite(phi).all()
    run = compiled(family, link)
    level = run(response, np.full(300, np.average(start, weights=w)), phi).d[0]
    assert w @ run(response, start, phi).d[0] > w @ level
    assert len(np.unique(np.round(start, 8))) > 1


def test_what_a_family_says_about_itself():
    """Members that stand where names were asked for; a row per family, as the page on families describes them."""
    members = ("has_scale", "per_trial", "is_categorical", "has_thresholds")
    said = {name: tuple(member for member in members if getattr(f, member)) for name, f in FAMILIES.items()}
    assert {name: found for name, found in said.items() if found} == {
        "gaussian": ("has_scale",),
        "lognormal": ("has_scale",),
        "student": ("has_scale",),
        "binomial": ("per_trial",),
        "beta-binomial": ("per_trial",),
        **dict.fromkeys(("adjacent", "cumulative", "sequential"), ("is_categorical", "has_thresholds")),
        "multinomial": ("is_categorical",),
    }
    further = {name for name, f in FAMILIES.items() if f.further}
    own_means = {"truncated-poisson", "multinomial", "lognormal", "adjacent", "sequential"}
    assert {name for name, f in FAMILIES.items() if f.is_mixture} == {*further, *own_means}
    assert {*FAMILIES} - {*CLOSED} == {"multinomial"}
    assert [one.name for one in FAMILIES[CATEGORIES].predictors] == ["1", "2", "3"]
    pairs = [(name, link) for name in CLOSED for link in FAMILIES[name].links]
    closed = [pair for pair in pairs if FAMILIES[pair[0]].has_closed_form(LINKS[pair[1]])]
    linear = [pair for pair in pairs if FAMILIES[pair[0]].has_linear_mean(LINKS[pair[1]])]
    assert closed == [("gaussian", "identity")]
    assert sorted(linear) == [("gaussian", "identity"), ("student", "identity")]
    eta = np.array([-2.0, 0.5])
    for name, link in pairs:
        f = FAMILIES[name]
        mean = mean_at(name, link, eta, np.full(5, 0.3))
        equal = mean.shape == eta.shape and np.array_equal(mean, eta)
        assert equal == ((name, link) in linear)
        own = {"zero": ["zi"], "hurdle": ["hu"]}.get(name.split("-")[0], [])
        assert [predictor.name for predictor in f.predictors] == ["mu", *own]


def test_trials_and_words_for_means():
    read = FAMILIES["binomial"].read(Outcome("k", np.array([1.0, 0.0]), failures=np.array([2.0, 4.0])))
    assert FAMILIES["binomial"].trials(read).tolist() == [3.0, 4.0]
    assert FAMILIES["poisson"].trials(Response(np.array([3.0, 0.0]), (), np.zeros(2))).tolist() == [1.0, 1.0]
    words = {name: f.mean_words("passed", "passed", ("no", "yes")) for name, f in FAMILIES.items()}
    assert words.pop("binomial") == words.pop("beta-binomial") == "Probability of passed = yes"
    of_categories = [words.pop(name) for name in ("adjacent", "cumulative", "multinomial", "sequential")]
    assert set(of_categories) == {"Probability of passed"}
    assert set(words.values()) == {"Mean of passed"}
    assert FAMILIES["binomial"].mean_words("hits", "cbind(hits, n - hits)", ()) == "Mean of hits"


def test_vague_parameters_are_kept_where_numpy_can_draw():
    rng, far = np.random.default_rng(1), np.array([-900.0, 0.0, 900.0])
    for name, phi in {
        "poisson": [],
        "negbinomial": [99.0],
        "beta": [99.0],
        "gamma": [99.0],
        "lognormal": [99.0],
        "tweedie": [99.0, 99.0],
    }.items():
        link = LINKS[FAMILIES[name].links[0]]
        eta, kept = FAMILIES[name].drawable(link, far, np.array(phi))
        assert np.isfinite(FAMILIES[name].draw(rng, link, eta, kept, (far, far))).all()
    assert np.isnan(FAMILIES["gamma"].drawable(LINKS["inverse"], far, np.zeros(1))[0]).tolist() == [True, True, False]


def test_scale_is_what_results_call_sigma():
    phi = np.array([0.4, 1.0])
    assert FAMILIES["gaussian"].scale(phi[:1]) == FAMILIES["student"].scale(phi) == np.exp(0.4)
    assert FAMILIES["lognormal"].scale(phi[:1]) == np.exp(0.4)
    close(FAMILIES["gamma"].scale(phi[:1]), np.exp(-0.2), rtol=1e-15)
    assert FAMILIES["poisson"].scale(np.zeros(0)) == 1.0


def test_moments_at_the_start_recover_phi():
    rng = np.random.default_rng(6)
    for family, tolerance in (
        ("negbinomial", 0.15),
        ("gamma", 0.1),
        ("beta", 0.1),
        ("gaussian", 0.05),
        ("lognormal", 0.05),
        ("tweedie", 0.1),
    ):
        f = FAMILIES[family]
        link, phi = LINKS[f.links[0]], phis(family)[0]
        response = f.read(Outcome("y", f.draw(rng, link, np.full(20_000, 0.5), phi, ())))
        close(f.start(link, response, np.ones(20_000))[1], phi, 0, tolerance)


def test_level_one_variance():
    """Latent distributions, and the observation-level variances of Nakagawa et al. (2017), table 1."""
    binomial, cumulative = FAMILIES["binomial"], FAMILIES["cumulative"]
    for link, distribution in DISTRIBUTION.items():
        expected = np.nan if link == "cauchit" else distribution.var()
        close(binomial.latent_variance(LINKS[link], 0.3, np.zeros(0)), expected)
        close(cumulative.latent_variance(LINKS[link], 0.3, np.zeros(2)), expected)
    one = np.array([np.log(4.0)])
    log, sqrt, inverse, identity = (LINKS[name] for name in ("log", "sqrt", "inverse", "identity"))
    close(FAMILIES["poisson"].latent_variance(log, 2.0, one[:0]), np.log(1.5))
    close(FAMILIES["poisson"].latent_variance(sqrt, 2.0, one[:0]), 0.25)
    close(FAMILIES["negbinomial"].latent_variance(log, 2.0, one), np.log(1 + 1 / 2 + 1 / 4))
    close(FAMILIES["negbinomial"].latent_variance(sqrt, 2.0, one), 0.25 * (1 + 2 / 4))
    close(FAMILIES["gamma"].latent_variance(log, 2.0, one), np.log(1 + 1 / 4))
    close(FAMILIES["gamma"].latent_variance(inverse, 2.0, one), 0.25 * 2.0**2 / 2.0**4)
    close(FAMILIES["beta"].latent_variance(LINKS["logit"], 0.3, one), 0.21 / 5 / 0.21**2)
    close(FAMILIES["student"].latent_variance(identity, 2.0, np.array([0.5, np.log(4.0)])), np.exp(1.0) * 5 / 3)
    assert np.isnan(FAMILIES["student"].latent_variance(identity, 2.0, np.array([0.5, -0.1])))
    close(FAMILIES["gaussian"].latent_variance(identity, 2.0, one / 2), 4.0)
    close(FAMILIES["lognormal"].latent_variance(log, 2.0, one / 2), 4.0)
    close(FAMILIES["tweedie(1.5)"].latent_variance(log, 2.0, one), np.log(1 + 4 / np.sqrt(2.0)))


# -- links -------------------------------------------------------------------------------------------------------------


def evaluated(graph, x, at):
    return pytensor.function([x], graph, mode=ENGINES["python"]())(at)


@pytest.mark.parametrize("name", LINKS)
def test_link_agrees_with_itself(name):
    """The graph, the numpy functions and their inverse."""
    link = LINKS[name]
    eta = range_of(name, 21, 3.0)
    x = pt.dvector()
    close(evaluated(link.mean_graph(x), x, eta), link.mean(eta), 1e-13)
    close(link.eta(link.mean(eta)), eta, 1e-9, 1e-15)
    close(link.slope(eta), (link.mean(eta + 1e-5) - link.mean(eta - 1e-5)) / 2e-5, 1e-7, 1e-10)
    if name != "identity":
        close(evaluated(link.log_mean(x), x, eta), np.log(link.mean(eta)), 1e-12, 1e-13)
        close(evaluated(link.reciprocal_mean(x), x, eta), 1 / link.mean(eta), 1e-12)
        close(evaluated(link.log_one_plus(x, pt.constant(0.7)), x, eta), np.log1p(link.mean(eta) / np.exp(0.7)), 1e-12)
    assert np.isfinite(link.mean(np.array([-800.0, 800.0]))).all()


@pytest.mark.parametrize("name", PROBABILITY)
def test_probabilities_keep_their_digits_in_the_tails(name):
    """Relative precision of log F in the lower tail, log (1 - F) in the upper, and of differences in both."""
    link, F = LINKS[name], DISTRIBUTION[name]
    x, step = pt.dvector(), 1e-3
    eta = np.concatenate([-np.geomspace(1e-3, 700, 40), np.geomspace(1e-3, 700, 40)])
    shown = eta if name != "loglog" else eta[eta > -50]  # exp goes on as a polynomial from 50 on
    close(evaluated(link.log_cdf(x), x, shown), F.logcdf(shown), 1e-10, 1e-15)
    shown = eta if name != "cloglog" else eta[eta < 50]
    close(evaluated(link.log_sf(x), x, shown), F.logsf(shown), 1e-10, 1e-15)
    inner = eta[np.abs(eta) < 4]
    narrow = evaluated(link.log_difference(x + step, x), x, inner)
    close(narrow, F.logpdf(inner + step / 2) + np.log(step), 1e-5, 2e-5)
    first, last = pt.eq(x, x), pt.neq(x, x)
    close(evaluated(link.log_interval(x, x, 0.0, first, last), x, eta), evaluated(link.log_cdf(x), x, eta), 1e-12)
    close(evaluated(link.log_interval(x, x, 0.0, last, first), x, eta), evaluated(link.log_sf(x), x, eta), 1e-12)


# -- reading outcomes --------------------------------------------------------------------------------------------------

Y = np.array


def test_outcomes_of_the_binomial_family():
    read = FAMILIES["binomial"].read
    for given in (
        Outcome("k", Y([1.0, 0.0, 3.0]), failures=Y([2.0, 4.0, 0.0])),
        Outcome("k", Y([1 / 3, 0.0, 1.0]), trials=Y([3.0, 4.0, 3.0])),
    ):
        response = read(given)
        close(response.y, [1, 0, 3])
        close(response.extra[0], [3, 4, 3])
        close(response.constant, np.log([3, 1, 1]), atol=1e-14)
        assert response.notes == ()
    response = read(Outcome("use", Y([0.0, 2.0, 2.0]), categories=("N", "maybe", "Y")))
    assert response.categories == ("N", "Y")
    assert response.notes == ("Success is 'Y' (column 'use')",)
    close(response.y, [0, 1, 1])
    close(read(Outcome("passed", Y([True, False]))).y, [1, 0])


def test_outcomes_of_the_cumulative_family():
    read = FAMILIES["cumulative"].read
    response = read(Outcome("mark", Y([0, 3, 1, 3]), categories=("low", "mid", "top", "best"), ordered=True))
    assert response.categories == ("low", "mid", "best")
    assert "'top'" in response.notes[0]
    close(response.y, [0, 2, 1, 2])
    response = read(Outcome("stars", Y([5.0, 1.0, 3.0, 1.0])))
    assert response.categories == ("1", "3", "5")
    assert "1, 3, 5" in response.notes[0]
    close(response.y, [2, 0, 1, 0])
    assert FAMILIES["cumulative"].n_phi(response) == 2


AT = {"rows": Y([4, 7, 9])}
TEXT = {"categories": ("a", "b", "c")}
BAD = {
    "tweedie negative": ("tweedie", Outcome("cost", Y([3.0, -1.0, 0.0]), **AT), r"from 0 on. 'cost'.* -1 in row 7"),
    "tweedie zeros": ("tweedie", Outcome("cost", Y([0.0, 0.0])), r"zeros alone. All 2 values of 'cost' are 0"),
    "tweedie text": ("tweedie", Outcome("cost", Y([0, 1]), **TEXT), r"tweedie family needs a numeric outcome. 'cost'"),
    "lognormal zero": ("lognormal", Outcome("pay", Y([3.0, 0.0]), **AT), r"must be positive. 'pay' has the value 0"),
    "zeros cut off": (
        "truncated-poisson",
        Outcome("visits", Y([3.0, 0.0, 2.0]), **AT),
        r"from 1 on.*'visits' has the value 0 in row 7.*'hurdle-poisson'",
    ),
    "no zeros": ("zero-inflated-poisson", Outcome("visits", Y([1.0, 2.0])), r"'visits' has none.*is 1\..*'poisson'"),
    "no zeros at the hurdle": ("hurdle-negbinomial", Outcome("visits", Y([3.0, 2.0])), r"needs zeros.*'negbinomial'"),
    "zeros alone": ("hurdle-poisson", Outcome("visits", Y([0.0, 0.0])), r"All 2 values of 'visits' are 0"),
    "fractional counts": ("zero-inflated-negbinomial", Outcome("visits", Y([0.0, 2.5])), r"'visits' has the value 2.5"),
    "negative counts": ("hurdle-negbinomial", Outcome("visits", Y([0.0, -2.0])), r"hurdle-negbinomial.* -2"),
    "one trial": ("beta-binomial", Outcome("k", Y([0.0, 1.0])), r"'k' has one trial in all 2 rows.*cbind"),
    "two": ("binomial", Outcome("use", Y([0.0, 1.0, 2.0]), **AT), r"'use' has the value 2 in row 9.*cbind.*poisson"),
    "one and two": ("binomial", Outcome("use", Y([1.0, 2.0, 1.0])), r"'use' has the value 2\. Subtract 1"),
    "minus one": ("binomial", Outcome("use", Y([-1.0, 1.0, 1.0]), **AT), r"value -1 in row 4.*\(use > 0\)"),
    "share": ("binomial", Outcome("use", Y([0.0, 0.25, 0.5]), **AT), r"value 0.25 in row 7 \(1 more.*trials='n'"),
    "three categories": (
        "binomial",
        Outcome("use", Y([0, 1, 2]), **TEXT),
        r"'use' has 3: 'a', 'b', 'c'.*cumula.*multi",
    ),
    "one category": ("binomial", Outcome("use", Y([1, 1, 1]), **TEXT), r"does not vary. 'use' is 'b' in all 3 rows"),
    "only ones": ("binomial", Outcome("use", Y([1.0, 1.0])), r"'use' has not one failure in 2 rows"),
    "only zeros": ("binomial", Outcome("use", Y([0.0, 0.0])), r"'use' has not one success in 2 rows"),
    "no success": ("binomial", Outcome("k", Y([0.0, 0.0]), failures=Y([2.0, 3.0])), r"'k' has not one success"),
    "negative": ("binomial", Outcome("k", Y([1.0, -2.0, 1.0]), failures=Y([1.0, 1, 1]), **AT), r"-2 in row 7.*first"),
    "more successes": (
        "binomial",
        Outcome("cbind(k, n - k)", Y([1.0, 4.0]), failures=Y([2.0, -1.0])),
        r"'cbind\(k, n - k\)' has the value -1.*more successes than trials",
    ),
    "fraction": ("binomial", Outcome("k", Y([1.5, 1.0]), failures=Y([2.0, 1.0])), r"'k' has the value 1.5.*trials="),
    "no trials": (
        "binomial",
        Outcome("k", Y([1, 0]), failures=Y([2, 0])),
        r"one trial. The total of 'k' has the value 0",
    ),
    "both": ("binomial", Outcome("k", Y([1.0]), failures=Y([2.0]), trials=Y([3.0])), r"'k' comes with trials="),
    "zero trials": ("binomial", Outcome("p", Y([0.5, 0.5]), trials=Y([0.0, 2.0])), r"'p' has the value 0"),
    "fractional trials": ("binomial", Outcome("p", Y([0.5]), trials=Y([2.5])), r"'p' has the value 2.5"),
    "count with trials": ("binomial", Outcome("p", Y([0.5, 3.0]), trials=Y([4, 4])), r"'p' has the value 3.*cbind"),
    "not whole": ("binomial", Outcome("p", Y([0.5, 0.3]), trials=Y([4, 4])), r"'p' has the value 0.3.*1.2 successes"),
    "text with trials": ("binomial", Outcome("p", Y([0, 1]), trials=Y([4, 4]), **TEXT), r"'p' is categorical"),
    "infinite": ("poisson", Outcome("visits", Y([1.0, np.inf])), r"'visits' has the value inf"),
    "negative count": ("poisson", Outcome("visits", Y([1.0, -1.0, -3.0]), **AT), r"'visits'.* -1 in row 7 \(1 more"),
    "fractional count": ("poisson", Outcome("visits", Y([1.0, 2.5])), r"'visits' has the value 2.5.*gamma"),
    "text count": (
        "poisson",
        Outcome("visits", Y([0, 1]), **TEXT),
        r"'visits' is categorical: 'a', 'b', 'c'.*multinom",
    ),
    "zeros": ("negbinomial", Outcome("visits", Y([0.0, 0.0])), r"All 2 values of 'visits' are 0"),
    "negative negbinomial": ("negbinomial", Outcome("visits", Y([3.0, -1.0])), r"negbinomial.*'visits'.* -1"),
    "poisson with cbind": ("poisson", Outcome("k", Y([1.0]), failures=Y([2.0])), r"'k' comes with two columns"),
    "gamma zero": ("gamma", Outcome("minutes", Y([3.0, 0.0, 1.0]), **AT), r"positive. 'minutes'.* 0 in row 7"),
    "gamma negative": ("gamma", Outcome("minutes", Y([3.0, -0.5])), r"'minutes' has the value -0.5"),
    "gamma constant": ("gamma", Outcome("minutes", Y([3.0, 3.0])), r"'minutes' has the value 3 in all 2 rows"),
    "beta one": ("beta", Outcome("share", Y([0.3, 1.0, 0.0]), **AT), r"'share'.* 1 in row 7 \(1 more.*Smithson"),
    "beta percent": ("beta", Outcome("share", Y([30.0, 60.0])), r"'share' has the value 30.*Divide"),
    "beta text": ("beta", Outcome("share", Y([0, 1]), categories=("x", "y")), r"'share' is categorical.*'binomial'"),
    "unordered": ("cumulative", Outcome("mark", Y([0, 1, 2]), **TEXT), r"'mark' has categories without.*ordered=True"),
    "two ordered": (
        "cumulative",
        Outcome("mark", Y([0, 1]), ordered=True, **TEXT),
        r"'mark' has 2: 'a', 'b'.*binomial",
    ),
    "two numbers": ("cumulative", Outcome("mark", Y([0.0, 1.0])), r"'mark' has 2: '0', '1'.*binomial"),
    "many numbers": ("cumulative", Outcome("mark", np.arange(50.0)), r"'mark' has 50 distinct numbers, from 0 to 49"),
    "measured": ("cumulative", Outcome("mark", Y([0.0, 1.0, 2.5])), r"'mark' has the value 2.5.*pandas.cut"),
    "student text": ("student", Outcome("math", Y([0, 1, 2]), **TEXT), r"'math' is categorical"),
    "student constant": ("student", Outcome("math", Y([5.0, 5.0])), r"'math' has the value 5 in all 2 rows"),
    "gaussian trials": (
        "gaussian",
        Outcome("math", Y([5.0]), trials=Y([2.0])),
        r"'math' comes with a column of trials",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_outcomes(case):
    """Three sentences or more, with the column, the first bad value and its row."""
    family, given, match = BAD[case]
    with pytest.raises(DataError, match=match) as caught:
        FAMILIES[family].read(given)
    assert str(caught.value).count(". ") >= 2
    assert str(caught.value).endswith(".")
