"""Training a detector: a loss that falls, runs that resume, files that load."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests.drawn_faces import drawn_scene_maker
from tests.fakes import StopAfter
from vidrestore.errors import OptionsError, WeightsError
from vidrestore.models.face_detector import build_network, network_input
from vidrestore.models.state_dict import read_state_dict
from vidrestore.training.checkpoint import checkpoints
from vidrestore.training.degrade import Degradation
from vidrestore.training.detector import (
    DetectorState,
    DetectorTraining,
    SamplePool,
    export_detector,
    new_student,
    output_step,
    train_detector,
)
from vidrestore.training.detector_evaluation import as_detector
from vidrestore.training.detector_layers import LayerRecorder, layer_errors, layers
from vidrestore.training.detector_scenes import SceneMaker

CPU = torch.device("cpu")
NOTES = {"license": "none", "data_note": "drawn"}
CONFIG = Path(__file__).parents[1] / "configs" / "train_retinaface_lite.toml"


@pytest.fixture
def maker(tmp_path: Path) -> SceneMaker:
    return drawn_scene_maker(tmp_path / "faces")


@pytest.fixture
def recipe() -> DetectorTraining:
    small = DetectorTraining.from_toml(CONFIG)
    return dataclasses.replace(
        small, hint_weight=0.0, size_px=96, batch_size=4, pool_scenes=8, bfloat16=False, degradation=Degradation(())
    )


@pytest.fixture
def teacher(maker: SceneMaker) -> torch.nn.Module:
    """Random kernels, but the batch statistics of the pictures."""
    torch.manual_seed(0)
    network = build_network("mobile0.25").train()
    images = network_input(np.stack([maker.make(np.random.default_rng(seed)).image for seed in range(4)]), CPU)
    with torch.no_grad():
        for _ in range(40):
            network(images)
    return network.eval()


@pytest.fixture
def pool(maker: SceneMaker, teacher: torch.nn.Module) -> SamplePool:
    pool = SamplePool(maker, teacher, 8, np.random.default_rng(0))
    pool.renew(8)
    return pool


def test_layers_become_the_teachers(
    recipe: DetectorTraining, maker: SceneMaker, teacher: torch.nn.Module, tmp_path: Path
) -> None:
    """Sixty steps of the first part halve the mean error of the layers against a random teacher twice."""
    images = network_input(np.stack([maker.make(np.random.default_rng(seed)).image for seed in range(4)]), CPU)
    recorder = LayerRecorder(teacher)

    def mean_error(network: torch.nn.Module) -> float:
        recorder(images)
        with torch.no_grad():
            return torch.stack(list(layer_errors(network, recorder).values())).mean().item()

    before = mean_error(new_student(recipe.seed).eval())
    layerwise = dataclasses.replace(recipe, layer_steps=60, steps=0)
    after = mean_error(train_detector(layerwise, maker, teacher, tmp_path).student.eval())
    assert after < before / 4


def test_every_layer_is_matched() -> None:
    """Together the matched layers hold every parameter of the network, none of them twice."""
    network = build_network("mobile0.25")
    matched = [id(parameter) for layer in layers(network).values() for parameter in layer.parameters()]
    assert sorted(matched) == sorted(id(parameter) for parameter in network.parameters())


def test_faces_are_learned(recipe: DetectorTraining, pool: SamplePool) -> None:
    """Thirty steps from scratch take 30% off the loss on boxes and classes."""
    state = DetectorState(dataclasses.replace(recipe, layer_steps=0, steps=1000, learning_rate=4e-3))
    history = []
    for state.steps_done in range(30):
        history.append(output_step(state, pool))
    for name in ("class", "box"):
        start, end = (np.mean([losses[name] for losses in part]) for part in (history[:3], history[-3:]))
        assert end < 0.7 * start, name


def test_a_run_goes_on_where_it_stopped(
    recipe: DetectorTraining, maker: SceneMaker, pool: SamplePool, tmp_path: Path
) -> None:
    """Through both parts, whether cut in the first, between them or in the second; what comes out is loaded."""
    recipe = dataclasses.replace(recipe, layer_steps=3, steps=3)
    for looks, steps_done in ((2, 2), (1, 3), (1, 4), (100, 6)):
        state = train_detector(recipe, maker, pool.teacher, tmp_path, StopAfter(looks))  # type: ignore[arg-type]
        assert state.steps_done == steps_done
    assert len(checkpoints(tmp_path)) == 2

    target = tmp_path / "lite.safetensors"
    export_detector(tmp_path, target, figures={"recall": 1.0})
    assert target.stat().st_size <= 2_000_000
    with safe_open(target, framework="pt") as opened:
        metadata = opened.metadata()
    assert metadata["kind"] == "detector"
    assert "non-commercial" in metadata["license"]
    assert json.loads(metadata["figures"]) == {"recall": 1.0}
    image = np.zeros((1, 64, 64, 3), np.uint8)
    assert len(as_detector(target).detect(image)) == 1
    assert sorted(path.name for path in tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("looks", [2, 3])
def test_what_the_first_part_leaves_is_exported_whole(
    recipe: DetectorTraining, maker: SceneMaker, pool: SamplePool, tmp_path: Path, looks: int
) -> None:
    """In its middle and at its end: the student's weights, with nothing of its random start mixed in."""
    recipe = dataclasses.replace(recipe, layer_steps=3, steps=3)
    state = train_detector(recipe, maker, pool.teacher, tmp_path, StopAfter(looks))  # type: ignore[arg-type]
    assert state.steps_done == looks
    export_detector(tmp_path, tmp_path / "o.safetensors")
    exported = read_state_dict(tmp_path / "o.safetensors")
    for key, tensor in state.student.state_dict().items():
        if key in exported:
            torch.testing.assert_close(exported[key], tensor.to(exported[key].dtype), msg=key)


def test_weights_too_large_for_half_are_refused(tmp_path: Path) -> None:
    """Batch variances of 1e5 survive the export, weights of 1e5 stop it."""
    state = build_network("mobile0.25").state_dict()
    state["body.stage1.0.1.running_var"].fill_(1e5)
    torch.save({"ema": state, "matched": state, "steps_done": 1, **NOTES}, tmp_path / "c.pt")
    export_detector(tmp_path / "c.pt", tmp_path / "o.safetensors")
    assert read_state_dict(tmp_path / "o.safetensors")["body.stage1.0.1.running_var"].max() == 1e5
    state["fpn.output1.0.weight"].fill_(1e5)
    torch.save({"ema": state, "matched": state, "steps_done": 1, **NOTES}, tmp_path / "c.pt")
    with pytest.raises(WeightsError, match="float16"):
        export_detector(tmp_path / "c.pt", tmp_path / "o.safetensors")


def test_an_export_lies_between_the_parts(tmp_path: Path) -> None:
    """Weights 0 after the first part and 1 after the second are exported as 0.5."""
    state = {key: torch.ones_like(tensor) for key, tensor in build_network("mobile0.25").state_dict().items()}
    matched = {key: torch.zeros_like(tensor) for key, tensor in state.items()}
    torch.save({"ema": state, "matched": matched, "steps_done": 1, **NOTES}, tmp_path / "c.pt")
    export_detector(tmp_path / "c.pt", tmp_path / "o.safetensors")
    assert all((tensor == 0.5).all() for tensor in read_state_dict(tmp_path / "o.safetensors").values())


def test_the_recipe_in_the_repository_is_read_and_mistakes_are_named(tmp_path: Path) -> None:
    assert DetectorTraining.from_toml(CONFIG).size_px == 448
    text = CONFIG.read_text()
    wrong = tmp_path / "wrong.toml"
    for old, new, message in (
        ("seed = 1", "sede = 1", "no 'sede'"),
        ("seed = 1", 'seed = "one"', "seed of the recipe is 'one'; it must be of type int"),
        ("seed = 1", "", "seed"),
        ('step = "jpeg"', 'step = "jpg"', "jpg"),
    ):
        wrong.write_text(text.replace(old, new))
        with pytest.raises(OptionsError, match=message):
            DetectorTraining.from_toml(wrong)
    with pytest.raises(OptionsError, match=r"nowhere\.toml"):
        DetectorTraining.from_toml(tmp_path / "nowhere.toml")
