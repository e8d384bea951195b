"""Promises of the weights files that training makes."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.training_runs import ALONE, CPU, smooth_faces, tiny_config
from vidrestore.errors import WeightsError
from vidrestore.models.gpen import Gpen
from vidrestore.training.export import export_restorer
from vidrestore.training.state import TrainState
from vidrestore.training.train import train


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


@pytest.mark.parametrize("half", [True, False])
def test_an_export_loads_into_gpen_and_says_what_it_is(tmp_path: Path, half: bool) -> None:
    state = train(tiny_config(2), smooth_faces(), tmp_path / "run", ALONE)
    target = tmp_path / "weights" / "tiny.safetensors"
    export_restorer(tmp_path / "run", target, half=half)
    net = Gpen.from_state_dict(load_file(target))
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        assert (net(x) - state.ema(x)).abs().max() < (5e-3 if half else 1e-6)
    written = metadata(target)
    expected = {"kind": "restorer", "name": "tiny", "template": "tight", "crop_px": "32", "license": "none"}
    assert expected.items() <= written.items()
    assert written["commit"]
    assert float(written["val_psnr"]) > 0


def test_an_export_keeps_every_bit_unless_half_is_asked_for(tmp_path: Path) -> None:
    """float32, equal to the averaged network; with `half` every tensor is float16."""
    state = TrainState(tiny_config(9), CPU)
    checkpoint = state.save(tmp_path)
    export_restorer(checkpoint, tmp_path / "full.safetensors")
    full = load_file(tmp_path / "full.safetensors")
    assert full.keys() == state.ema.state_dict().keys()
    assert all(torch.equal(full[key], value) for key, value in state.ema.state_dict().items())
    export_restorer(checkpoint, tmp_path / "half.safetensors", half=True)
    assert {tensor.dtype for tensor in load_file(tmp_path / "half.safetensors").values()} == {torch.float16}


def test_weights_too_large_for_half_are_refused_in_one_line(tmp_path: Path) -> None:
    """A weight of 1e5 would be infinite in float16: nothing is written. In full precision it is kept."""
    state = TrainState(tiny_config(9), CPU)
    state.ema.generator.input.input.fill_(1e5)
    checkpoint, target = state.save(tmp_path), tmp_path / "o.safetensors"
    with pytest.raises(WeightsError, match=r"generator\.input\.input does not fit into float16.*--half") as caught:
        export_restorer(checkpoint, target, half=True)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    export_restorer(checkpoint, target)
    assert load_file(target)["generator.input.input"].max() == 1e5


def test_figures_say_which_step_they_are_of(tmp_path: Path) -> None:
    """Validated every 2nd step and saved after each: step 3 has the figures of step 2, also once it was resumed."""
    config = tiny_config(4)
    loop = dataclasses.replace(config.loop, val_every_steps=2, save_every_steps=1, checkpoints_kept=4)
    config = dataclasses.replace(config, loop=loop)
    train(config, smooth_faces(), tmp_path, ALONE)
    state = TrainState(config, CPU)
    state.resume(tmp_path / "step_00000003.pt")
    resumed = state.save(tmp_path / "resumed")
    for checkpoint in (tmp_path / "step_00000003.pt", resumed):
        export_restorer(checkpoint, tmp_path / "o.safetensors")
        written = metadata(tmp_path / "o.safetensors")
        assert (written["steps"], written["val_step"]) == ("3", "2")
    export_restorer(tmp_path / "step_00000001.pt", tmp_path / "o.safetensors")
    assert not any(key.startswith("val_") for key in metadata(tmp_path / "o.safetensors"))
