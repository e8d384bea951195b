"""Promises of the training loop, its start and its export."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vidrestore.errors import OptionsError, WeightsError
from vidrestore.models.gpen import Gpen, GpenConfig
from vidrestore.training.data import DataConfig, DegradationConfig, FaceSet
from vidrestore.training.export import export_restorer
from vidrestore.training.losses import LossWeights, psnr_db, weighted_losses
from vidrestore.training.start import start_as_identity
from vidrestore.training.train import LoopConfig, TrainConfig, TrainState, checkpoints, learning_rate, train

CONFIGS = Path(__file__).parent.parent / "configs"


def tiny_config(steps: int) -> TrainConfig:
    return TrainConfig(
        name="tiny",
        template="tight",
        license="none",
        data_note="noise",
        model=GpenConfig(32, 1, 0.0625, 16, 2),
        degradation=DegradationConfig(mix={"soft": 1.0}),
        data=DataConfig(workers=0, val_share=0.3, softest_dropped=0.0, shift_px=2),
        loop=LoopConfig(steps=steps, batch_size=2, compile=False, threads=1, val_faces=4, warmup_steps=2),
    )


@pytest.fixture
def faces() -> FaceSet:
    """Twenty smooth "faces" of 32 px."""
    coarse = torch.rand(20, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 255
    crops = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 255)
    return FaceSet(
        crops.permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy(),
        tuple(f"{number}.png" for number in range(20)),
        np.ones(20),
    )


@pytest.mark.parametrize(("size_px", "multiplier"), [(32, 1), (128, 1), (128, 2)])
def test_an_untrained_network_gives_its_input_back(size_px: int, multiplier: int) -> None:
    """Within 1e-4 in float32, and above 45 dB where training computes in bfloat16."""
    torch.manual_seed(0)
    net = Gpen(GpenConfig(size_px, multiplier, 0.125, 32, 2))
    start_as_identity(net)
    x = torch.rand(2, 3, size_px, size_px) * 2 - 1
    with torch.no_grad():
        assert (net(x) - x).abs().max() < 1e-4
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert psnr_db(net(x).float(), x).min() > 45


def test_every_weight_that_matters_can_learn_from_the_identity() -> None:
    """The last ToRGB and the first encoder layer get gradients at the first step, the styled layers at the second."""
    torch.manual_seed(0)
    net = Gpen(GpenConfig(32, 1, 0.125, 16, 2))
    start_as_identity(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    for _ in range(2):
        optimizer.zero_grad()
        (net(x) - 0.5 * x).square().mean().backward()
        optimizer.step()
    silent = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []


def test_a_run_that_was_cut_ends_with_the_same_weights(tmp_path: Path, faces: FaceSet) -> None:
    whole = train(tiny_config(7), faces, tmp_path / "whole")

    class StopAfterThree:
        """Says stop at the fourth look, as Ctrl-C would."""

        looks = 0

        @property
        def is_set(self) -> bool:
            self.looks += 1
            return self.looks > 3

    half = train(tiny_config(7), faces, tmp_path / "cut", StopAfterThree())  # type: ignore[arg-type]
    assert half.steps_done == 3
    resumed = train(tiny_config(7), faces, tmp_path / "cut")
    assert resumed.steps_done == whole.steps_done == 7
    for one, other in ((whole.net, resumed.net), (whole.ema, resumed.ema)):
        for key, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[key]), key


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    state = TrainState(tiny_config(9))
    for step in (1, 2, 3):
        state.steps_done = step
        state.save(tmp_path)
    (tmp_path / "step_00000009.part").write_bytes(b"cut short")
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000002.pt", "step_00000003.pt"]


def test_a_checkpoint_of_another_network_is_refused_in_one_line(tmp_path: Path) -> None:
    path = TrainState(tiny_config(9)).save(tmp_path)
    other = dataclasses.replace(tiny_config(9), model=GpenConfig(64, 1, 0.0625, 16, 2))
    with pytest.raises(WeightsError) as caught:
        TrainState(other).load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("half", [True, False])
def test_an_export_loads_into_gpen_and_says_what_it_is(tmp_path: Path, faces: FaceSet, half: bool) -> None:
    state = train(tiny_config(2), faces, tmp_path / "run")
    target = tmp_path / "weights" / "tiny.safetensors"
    export_restorer(tmp_path / "run", target, half=half)
    net = Gpen.from_state_dict(load_file(target))
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        assert (net(x) - state.ema(x)).abs().max() < (5e-3 if half else 1e-6)
    with safe_open(target, "pt") as file:
        metadata = file.metadata()
    expected = {"kind": "restorer", "name": "tiny", "template": "tight", "crop_px": "32", "license": "none"}
    assert expected.items() <= metadata.items()
    assert float(metadata["val_psnr"]) > 0


def test_shipped_configs_are_valid() -> None:
    config = TrainConfig.from_toml(CONFIGS / "train_gpen_lite.toml")
    assert (config.name, config.template, config.model.size_px) == ("gpen-lite-256", "tight", 256)


def test_a_misspelt_key_is_named(tmp_path: Path) -> None:
    text = (CONFIGS / "train_gpen_lite.toml").read_text().replace("batch_size", "batchsize")
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(OptionsError, match="batchsize"):
        TrainConfig.from_toml(tmp_path / "run.toml")


def test_the_learning_rate_warms_up_stays_and_falls_to_its_last_share() -> None:
    loop = LoopConfig(steps=1000, learning_rate=1.0, warmup_steps=10, flat_share=0.5, final_rate=0.01)
    rates = [learning_rate(loop, step, step / 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:501] == pytest.approx([1.0] * 491)
    assert rates[1000] == pytest.approx(0.01)
    assert rates[500:] == sorted(rates[500:], reverse=True)


def test_losses_are_zero_only_on_the_truth() -> None:
    truth = torch.rand(1, 3, 8, 8)
    weights = LossWeights(l1=1.0, charbonnier=1.0, gradient=0.5)
    assert sum(weighted_losses(truth, truth, weights).values()).item() == pytest.approx(0, abs=1e-6)
    wrong = weighted_losses(truth + torch.rand(1, 3, 8, 8), truth, weights)
    assert list(wrong) == ["l1", "charbonnier", "gradient"]
    assert all(value > 0.01 for value in wrong.values())
