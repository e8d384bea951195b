"""Promises of the losses that look at pixels alone."""

import pytest
import torch

from vidrestore.training.losses import LossWeights, decibel, paired_losses


def worth_of_a_decibel(psnr_db: float, floor_db: float) -> float:
    """How much the loss falls when a picture of that PSNR gets better by 1 dB."""
    target = torch.zeros(1, 3, 8, 8)
    before, after = (torch.full_like(target, 2 * 10 ** (-level / 20)) for level in (psnr_db, psnr_db + 1))
    return float(decibel(before, target, floor_db=floor_db) - decibel(after, target, floor_db=floor_db))


def test_a_decibel_is_worth_the_same_on_pictures_worse_than_the_floor() -> None:
    full = worth_of_a_decibel(20, floor_db=60)
    assert worth_of_a_decibel(40, floor_db=60) == pytest.approx(full, rel=0.02)
    assert worth_of_a_decibel(20, floor_db=30) == pytest.approx(full, rel=0.15)


def test_what_is_wrong_with_pictures_10_db_better_than_the_floor_counts_a_tenth() -> None:
    assert worth_of_a_decibel(40, floor_db=30) == pytest.approx(0.08 * worth_of_a_decibel(20, floor_db=60), rel=0.1)


def test_a_recipe_sets_the_floor() -> None:
    weights = LossWeights(decibel=0.5, decibel_floor_db=40.0)
    weight, loss = paired_losses(weights, "tight", torch.device("cpu"))["decibel"]
    target, output = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.01)
    assert weight == 0.5
    assert loss(output, target) == pytest.approx(float(decibel(output, target, floor_db=40.0)))
