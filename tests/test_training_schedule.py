"""Promises of the learning rate."""

import pytest

from vidrestore.training.schedule import learning_rate_share


def test_the_learning_rate_warms_up_stays_and_falls_to_its_last_share() -> None:
    shares = [learning_rate_share(k, 1000, warmup_steps=10, flat_share=0.5, final_share=0.01) for k in range(1001)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[10:501] == pytest.approx([1.0] * 491)
    assert shares[1000] == pytest.approx(0.01)
    assert shares[500:] == sorted(shares[500:], reverse=True)
