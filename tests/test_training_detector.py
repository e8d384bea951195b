"""Training a detector: scenes whose labels are true, a loss that falls, runs that resume, files that load."""

import dataclasses
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from vidrestore.errors import InputError, OptionsError, WeightsError
from vidrestore.face import Detection
from vidrestore.models.face_detector import build_network, network_input, priors_px
from vidrestore.models.spec import ModelSpec
from vidrestore.models.state_dict import read_state_dict
from vidrestore.training import detector_data
from vidrestore.training.checkpoint import checkpoints
from vidrestore.training.degrade import Degradation
from vidrestore.training.detector import (
    DetectorState,
    DetectorTraining,
    SamplePool,
    as_detector,
    export_detector,
    new_student,
    output_step,
    train_detector,
)
from vidrestore.training.detector_data import (
    BOX_COLUMNS,
    Canvas,
    FacePicture,
    Scene,
    SceneMaker,
    face_side_px,
    label_scene,
    load_backgrounds,
    load_face_pictures,
    turn_head,
)
from vidrestore.training.detector_evaluation import compare_detectors, landmark_error, load_pictures, table
from vidrestore.training.detector_layers import LayerRecorder, layer_errors, layers
from vidrestore.training.packed import LANDMARK_COLUMNS

CPU = torch.device("cpu")
NOTES = {"license": "none", "data_note": "drawn"}
CONFIG = Path(__file__).parents[1] / "configs" / "train_retinaface_lite.toml"
POINTS = np.array([[40, 50], [60, 50], [50, 62], [43, 74], [57, 74]], np.float32)
"""Landmarks of the drawn face, in a picture of 100 x 140 px; its box is 30..70 x 32..88."""


def drawn_face(seed: int = 0) -> NDArray[np.uint8]:
    """(140, 100, 3): a head with eyes, nose and mouth corners as green dots, on a plain ground."""
    rng = np.random.default_rng(seed)
    image = np.full((140, 100, 3), rng.integers(90, 200, 3), np.uint8)
    cv2.ellipse(image, (50, 60), (20, 28), 0, 0, 360, (210, 170, 150), -1)
    for x, y in POINTS.astype(int).tolist():
        cv2.circle(image, (x, y), 2, (0, 255, 0), -1)
    return image


@pytest.fixture
def faces_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    rows = ["\t".join(["file", "score", *BOX_COLUMNS, *LANDMARK_COLUMNS])]
    for index in range(6):
        cv2.imwrite(str(folder / f"{index}.png"), drawn_face(index)[:, :, ::-1])
        numbers = [30, 32, 70, 88, *POINTS.ravel().tolist()]
        rows.append("\t".join([f"{index}.png", "0.99", *map(str, numbers)]))
    (folder / "landmarks.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def maker(faces_folder: Path) -> SceneMaker:
    backgrounds = [np.random.default_rng(3).integers(0, 255, (80, 90, 3), dtype=np.uint8)]
    return SceneMaker(load_face_pictures(faces_folder), backgrounds, 96)


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


@pytest.mark.parametrize(("side_px", "angle_deg"), [(20.0, 0.0), (47.0, 25.0), (120.0, -30.0)])
def test_a_pasted_face_lies_where_its_label_says(
    side_px: float, angle_deg: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Landmarks hit the green dots (mirrored or not), the box has the asked side within 2%."""
    monkeypatch.setattr(detector_data, "TURNED_SHARE", 0.0)
    data = cv2.imencode(".png", drawn_face()[:, :, ::-1])[1].tobytes()
    face = FacePicture(data, np.array([30, 32, 70, 88], np.float32), POINTS, True)
    for seed in range(4):
        canvas = Canvas(np.zeros((200, 200, 3), np.uint8))
        canvas.paste(face, np.array([100.0, 110.0]), side_px, angle_deg, "rect", np.random.default_rng(seed))
        scene = canvas.scene()
        assert face_side_px(scene.boxes[0]) == pytest.approx(side_px, rel=0.02)
        greenness = scene.image[:, :, 1].astype(float) - scene.image[:, :, [0, 2]].mean(axis=2)
        for x, y in scene.landmarks[0]:
            around = greenness[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3]
            assert around.max() > np.percentile(greenness, 95) + 10
        left_eye, right_eye = scene.landmarks[0][:2]
        assert left_eye[0] < right_eye[0], "left stays the viewer's left, also when mirrored"


@pytest.mark.parametrize("yaw_deg", [-50.0, -20.0, 20.0, 50.0])
def test_a_turned_head_carries_its_landmarks_along(yaw_deg: float) -> None:
    """The nose goes to the side the head is turned to, each landmark still sits on its green dot (2 px)."""
    wide = cv2.copyMakeBorder(drawn_face(), 0, 0, 60, 60, cv2.BORDER_REPLICATE)
    box, points = np.array([90, 32, 130, 88], np.float32), POINTS + np.float32([60, 0])
    image, turned_box, moved = turn_head(np.asarray(wide, np.uint8), box, points, yaw_deg)
    assert np.sign(moved[2, 0] - moved[:2, 0].mean()) == np.sign(yaw_deg)
    assert turned_box[2] - turned_box[0] < box[2] - box[0]
    greenness = image[:, :, 1].astype(float) - image[:, :, [0, 2]].mean(axis=2)
    far_eye = 1 if yaw_deg > 0 else 0
    for index, (x, y) in enumerate(moved):
        if index == far_eye and abs(yaw_deg) > 45:
            continue  # may be hidden behind the nose
        around = greenness[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3]
        assert around.max() > 60


def test_hidden_faces_are_not_asked_for() -> None:
    """A second face pasted over the first leaves one label; a decoy leaves none."""
    data = cv2.imencode(".png", drawn_face()[:, :, ::-1])[1].tobytes()
    face = FacePicture(data, np.array([30, 32, 70, 88], np.float32), POINTS, True)
    rng = np.random.default_rng(0)
    canvas = Canvas(np.zeros((200, 200, 3), np.uint8))
    canvas.paste(face, np.array([100.0, 100.0]), 50, 0, "head", rng)
    canvas.paste(face, np.array([110.0, 100.0]), 60, 0, "head", rng)
    canvas.paste(face, np.array([30.0, 40.0]), 30, 0, "head", rng, decoy=drawn_face())
    scene = canvas.scene()
    assert len(scene.boxes) == 1
    assert face_side_px(scene.boxes[0]) == pytest.approx(60, rel=0.05)


def test_scenes_are_seeded_and_of_all_kinds(maker: SceneMaker) -> None:
    first, second = (maker.make(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    rng = np.random.default_rng(6)
    counts = [len(scene.boxes) for scene in (maker.make(rng) for _ in range(30))]
    assert min(counts) == 0, "some scenes hold decoys alone"
    assert max(counts) >= 3, "some scenes are crowded"


def test_what_the_teacher_misses_is_still_asked_for() -> None:
    """Two placed faces, the teacher sees one: its own box there, probability 1 on the other's priors."""
    priors = priors_px(96, 96)
    boxes = torch.zeros(len(priors), 4) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    landmarks = torch.zeros(len(priors), 5, 2)
    probability = torch.zeros(len(priors))
    winner = int((priors - torch.tensor([20.0, 20.0, 16.0])).abs().sum(dim=1).argmin())
    boxes[winner], probability[winner] = torch.tensor([11.0, 11.0, 29.0, 29.0]), 0.9
    placed = np.array([[12, 12, 28, 28], [50, 50, 82, 82]], np.float32)
    scene = Scene(np.zeros((96, 96, 3), np.uint8), placed, np.zeros((2, 5, 2), np.float32))
    sample = label_scene(scene, probability, boxes, landmarks)
    assert sample.boxes.tolist() == [[11, 11, 29, 29], [50, 50, 82, 82]]
    assert sample.probability[winner] == pytest.approx(0.9)
    missed = sample.face_index == 1
    assert missed.any()
    assert (sample.probability[missed] == 1).all()
    assert (sample.probability[~missed] < 1).all()


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


class StopAfter:
    """Says stop once it has been asked so many times, as Ctrl-C would."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


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


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"landmarks\.tsv"):
        load_face_pictures(tmp_path)
    with pytest.raises(InputError, match="backgrounds"):
        load_backgrounds(tmp_path)
    with pytest.raises(InputError, match="neither pictures nor clips"):
        load_pictures(tmp_path, 1)
    with pytest.raises(WeightsError, match=r"none\.pth"):
        read_state_dict(tmp_path / "none.pth")


class Always:
    """Finds the same faces in every picture."""

    spec = ModelSpec("test", "detector", "test", None, None, None, "none", "none")
    sha256 = ""

    def __init__(self, *faces: Detection) -> None:
        self.faces = faces

    def detect(self, images: NDArray[np.uint8]) -> list[tuple[Detection, ...]]:
        return [self.faces] * len(images)


def face_at(x: float, side_px: float, score: float) -> Detection:
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32) * side_px + [x, 0]
    return Detection(np.array([x, 0, x + side_px, side_px], np.float32), score, points.astype(np.float32))


def test_figures_count_what_they_say() -> None:
    """Of two true faces and a doubtful one, the student finds one (10% off), the doubtful one, and one of its own."""
    large, small = face_at(0, 60, 0.95), face_at(100, 30, 0.9)
    teacher = Always(large, small, face_at(200, 30, 0.5))
    moved = face_at(2.4, 60, 0.9)  # 2.4 px = a tenth of the eye distance of 24 px
    student = Always(moved, face_at(200, 30, 0.6), face_at(300, 30, 0.7), face_at(400, 30, 0.4))
    figures = compare_detectors(student, teacher, [("one", np.zeros((64, 64, 3), np.uint8))])
    rows = {(row.detector, row.condition, row.bin_px): row for row in figures}
    assert rows["student", "clean", "40-inf"].recall == 1
    assert rows["student", "clean", "40-inf"].landmark_error == pytest.approx(0.1, abs=1e-3)
    assert rows["student", "clean", "20-40"].recall == 0
    assert math.isnan(rows["student", "clean", "0-20"].recall)
    assert rows["student", "clean", "20-40"].num_detections == 3
    assert rows["student", "clean", "20-40"].false_positives == pytest.approx(1 / 3)
    assert rows["teacher", "degraded", "40-inf"].recall == 1
    assert "| clean | student | 40-inf | 1 | 1.000 | 0.100 |" in table(figures)
    assert landmark_error(large, large) == 0
