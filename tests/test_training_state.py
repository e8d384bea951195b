"""Promises of checkpoints: ours, the official script's, and bare generators."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training_runs import ALONE, CPU, same_weights, smooth_faces, tiny_adversarial_config, tiny_config
from vidrestore.errors import WeightsError
from vidrestore.models.gpen import Gpen, GpenConfig
from vidrestore.training.checkpoint import checkpoints
from vidrestore.training.discriminator import DiscriminatorConfig
from vidrestore.training.state import TrainState
from vidrestore.training.train import train


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    state = TrainState(tiny_config(9), CPU)
    for step in (1, 2, 3):
        state.steps_done = step
        state.save(tmp_path)
    (tmp_path / "step_00000009.part").write_bytes(b"cut short")
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000002.pt", "step_00000003.pt"]


def test_a_checkpoint_of_another_network_is_refused_in_one_line(tmp_path: Path) -> None:
    path = TrainState(tiny_config(9), CPU).save(tmp_path)
    other = dataclasses.replace(tiny_config(9), model=GpenConfig(32, 1, 0.125, 16, 2))
    for load in (TrainState(other, CPU).resume, TrainState(other, CPU).start_from):
        with pytest.raises(WeightsError) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_of_the_official_script_goes_on(shared: Path, tmp_path: Path) -> None:
    """Golden generator and discriminator in the official layout: the run begins with exactly these weights."""
    generator = load_file(shared / "golden" / "gpen_64_narrow0.125.safetensors")
    discriminator = load_file(shared / "golden" / "discriminator_64_narrow0.125.safetensors")
    average = {key: value + 0.25 for key, value in generator.items()}
    tables = {"g": generator, "d": discriminator, "g_ema": average, "g_optim": {}, "d_optim": {}}
    torch.save(tables, tmp_path / "010000.pth")
    config = tiny_adversarial_config(3)
    config = dataclasses.replace(
        config,
        start="random",
        model=GpenConfig(64, 1, 0.125, 512, 8),
        discriminator=DiscriminatorConfig(kind="stylegan2", channel_multiplier=1, width=0.125),
    )
    state = TrainState(config, CPU)
    state.start_from(tmp_path / "010000.pth")
    assert state.discriminator is not None
    for net, tensors in ((state.net, generator), (state.ema, average), (state.discriminator, discriminator)):
        assert net.state_dict().keys() == tensors.keys()
        assert all(torch.equal(value, tensors[key]) for key, value in net.state_dict().items())


def test_a_new_run_begins_with_a_bare_generator(tmp_path: Path) -> None:
    """As released (.pth) and as we ship it (.safetensors)."""
    torch.manual_seed(5)
    trained = Gpen(tiny_config(1).model)
    torch.save(trained.state_dict(), tmp_path / "bare.pth")
    save_file(trained.state_dict(), tmp_path / "bare.safetensors")
    for name in ("bare.pth", "bare.safetensors"):
        state = TrainState(dataclasses.replace(tiny_config(1), start="random"), CPU)
        state.start_from(tmp_path / name)
        assert same_weights(state.net, trained) == same_weights(state.ema, trained) == []
        with pytest.raises(WeightsError, match='set start = "random"'):
            TrainState(tiny_config(1), CPU).start_from(tmp_path / name)


def test_our_checkpoint_reads_as_an_official_one(tmp_path: Path) -> None:
    """`g`, `d`, `g_ema`, `g_optim` and `d_optim` are where the official script looks for them."""
    train(tiny_adversarial_config(3), smooth_faces(), tmp_path, ALONE)
    saved = torch.load(checkpoints(tmp_path)[-1], weights_only=True)
    assert {"g", "d", "g_ema", "g_optim", "d_optim"} <= saved.keys()
    assert saved["g"].keys() == saved["g_ema"].keys()
    assert {"state", "param_groups"} <= saved["g_optim"].keys()
