import numpy as np
import pytest

from evolve.archive.credit import Credit


def credit_after(**uses: list[float]) -> Credit:
    credit = Credit(decay=0.9, prior_uses=4.0, prior_rewards=1.0)
    for name, rewards in uses.items():
        for reward in rewards:
            credit.record(name, reward)
    return credit


def test_what_was_never_used_has_the_prior_rate():
    credit = credit_after(a=[1.0] * 9)
    assert credit.rate("b") == pytest.approx(0.25)
    assert credit.rate("a") > 0.6


def test_a_use_counts_less_with_each_later_one_of_any_alternative():
    credit = credit_after(a=[1.0], b=[0.0, 0.0])
    assert credit.rate("a") == pytest.approx((1.0 + 0.81) / (4.0 + 0.81))


def test_a_rate_is_surer_after_many_uses():
    assert credit_after(a=[0.0, 1.0] * 9).variance("a") < credit_after(a=[0.0, 1.0]).variance("a")


def test_sampled_rates_have_the_mean_and_variance_of_the_rate():
    credit = credit_after(a=[1.0, 0.0, 0.0])
    drawn = [credit.sample_rate("a", np.random.default_rng(seed)) for seed in range(2000)]
    assert np.mean(drawn) == pytest.approx(credit.rate("a"), abs=0.015)
    assert np.var(drawn) == pytest.approx(credit.variance("a"), rel=0.15)


def test_chances_follow_rates_above_a_floor():
    chances = credit_after(a=[1.0] * 30, b=[0.0] * 30).chances(["a", "b"], floor=0.2)
    assert sum(chances.values()) == pytest.approx(1.0)
    assert 0.1 < chances["b"] < chances["a"]
