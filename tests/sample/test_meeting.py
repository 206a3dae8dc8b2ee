"""Chains that are evaluated together: each gets its own answer, whatever the threads do."""

import sys

import numpy as np
import nutpie
import pytest

from pmwmix.sample.nuts import nuts
from pmwmix.sample.nuts.nuts import met
from pmwmix.sample.request import Request

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="chains do not meet on Windows")
CHAINS, DIM = 7, 3


def request(draws: int = 400) -> Request:
    return Request(draws, 300, CHAINS, 3, "nutpie", {}, False, 2)


def normal_about(centres):
    """Log-density and gradient of standard normals, every chain's about a place of its own."""

    def evaluate(points):
        gap = points - centres[:, None]
        return np.column_stack([-0.5 * (gap**2).sum(axis=1), -gap])

    return evaluate


def test_every_chain_samples_its_own_density():
    centres = 50.0 * np.arange(CHAINS)
    z, stats = met(CHAINS, DIM, request(), 3, normal_about(centres))
    assert z.shape == (CHAINS, 400, DIM)
    # standard normals: 400 draws know their mean to about 0.05, and chains stand 50 apart
    np.testing.assert_allclose(z.mean(axis=1), np.repeat(centres[:, None], DIM, axis=1), atol=0.4)
    np.testing.assert_allclose(z.std(axis=1), 1.0, atol=0.25)
    assert not stats["diverging"].any()


def test_a_seed_gives_the_same_draws_and_another_seed_others():
    centres = np.zeros(CHAINS)
    first, again, other = (met(CHAINS, DIM, request(100), seed, normal_about(centres))[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first[:, 0, 0])) == CHAINS  # no chain repeats another


def test_an_error_in_the_density_ends_the_sampling():
    calls = []

    def evaluate(points):
        calls.append(1)
        if len(calls) > 50:
            raise FloatingPointError("nothing to see")
        return normal_about(np.zeros(CHAINS))(points)

    with pytest.raises(FloatingPointError, match="nothing to see"):
        met(CHAINS, DIM, request(), 3, evaluate)


def test_a_density_that_is_not_finite_somewhere_is_a_divergence():
    def evaluate(points):
        out = normal_about(np.zeros(CHAINS))(points)
        out[points[:, 0] > 1.0] = np.nan
        return out

    z, stats = met(CHAINS, DIM, request(), 3, evaluate)
    assert (z[..., 0] <= 1.0).all() and stats["diverging"].any()


def test_a_sampler_too_busy_to_say_whether_it_has_ended_is_asked_again(monkeypatch):
    class Busy:
        said = iter([TimeoutError("Timeout while waiting for sampler to finish"), True])

        @property
        def is_finished(self):
            answer = next(self.said)
            if isinstance(answer, Exception):
                raise answer
            return answer

        def wait(self):
            return "draws"

    heard = []
    monkeypatch.setattr(nutpie, "sample", lambda *_, **__: Busy())
    assert nuts._sampled(None, 1, 1, 0, {}, lambda is_over: heard.extend([is_over(), is_over()])) == "draws"
    assert heard == [False, True]
