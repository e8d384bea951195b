"""Promises of one training step."""

import dataclasses
from pathlib import Path

import torch

from tests.training_runs import ALONE, CPU, same_weights, tiny_adversarial_config, tiny_config
from vidrestore.models.gpen import Gpen
from vidrestore.training.losses import LossWeights
from vidrestore.training.state import TrainState
from vidrestore.training.trainer import Trainer


def test_every_adversarial_part_reaches_the_weights() -> None:
    """Step 6 has both penalties: all losses are there and finite, and both networks move."""
    state = TrainState(tiny_adversarial_config(9), CPU)
    trainer = Trainer(state, ALONE)
    state.steps_done = 6
    before = {key: value.clone() for key, value in state.net.state_dict().items()}
    assert state.discriminator is not None
    judged_before = {key: value.clone() for key, value in state.discriminator.state_dict().items()}
    batch = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    figures = trainer.step(batch, batch.flip(0))
    expected = {"l1", "adversarial", "feature_matching", "path_length", "norm", "discriminator", "r1"}
    assert set(figures) == expected
    assert all(torch.isfinite(value) for value in figures.values())
    assert any(not torch.equal(before[key], value) for key, value in state.net.state_dict().items())
    assert any(not torch.equal(judged_before[key], v) for key, v in state.discriminator.state_dict().items())


def test_before_its_step_the_discriminator_does_nothing() -> None:
    """Until `from_step` the run is the same, bit for bit, as one without a discriminator."""
    plain, adversarial = tiny_adversarial_config(2), tiny_adversarial_config(2)
    plain = dataclasses.replace(plain, losses=LossWeights(l1=1.0))
    nets = []
    for config in (plain, adversarial):
        state = TrainState(config, CPU)
        trainer = Trainer(state, ALONE)
        batch = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
        for _ in range(2):
            trainer.step(batch, batch.flip(0))
        nets.append(state.net)
    assert same_weights(nets[0], nets[1]) == []


def test_an_average_that_a_run_is_started_with_is_not_forgotten(tmp_path: Path) -> None:
    """After one step it is still within 1% of where it was; a fresh one would be half-way to the new weights."""
    config = dataclasses.replace(tiny_config(9), start="random")
    other = Gpen(config.model)
    torch.save(other.state_dict(), tmp_path / "bare.pth")
    state = TrainState(config, CPU)
    state.start_from(tmp_path / "bare.pth")
    state.net.generator.input.input.data += 1.0
    batch = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    Trainer(state, ALONE).step(batch, batch.flip(0))
    moved = (state.ema.generator.input.input - other.generator.input.input).abs().max()
    assert 0 < moved < 0.01
