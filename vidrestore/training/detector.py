"""Training of the embedded face detector by distillation, its evaluation and export.

A RetinaFace with random weights (the student) learns from one that exists (the teacher), densely: at every prior of a
scene it must give the teacher's probability, at priors on a face its box and landmarks, and on the way the teacher's
features ("hints", Romero et al., FitNets, ICLR 2015). The teacher has seen the clean scene, the student sees it
degraded: so the student becomes better than its teacher on bad video.
"""

import dataclasses
import json
import logging
import math
import os
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore.errors import InputError, OptionsError, VidrestoreError, WeightsError
from vidrestore.models.face_detector import (
    STRIDES_PX,
    RetinaFaceDetector,
    build_network,
    encode_boxes,
    encode_landmarks,
    network_from_state_dict,
    network_input,
    priors_px,
)
from vidrestore.models.spec import ModelSpec
from vidrestore.models.state_dict import read_state_dict
from vidrestore.models.weights import write_weights
from vidrestore.training.degrade import Degradation
from vidrestore.training.detector_data import (
    Sample,
    SceneMaker,
    features_and_outputs,
    label_scenes,
    load_backgrounds,
    load_face_pictures,
)
from vidrestore.training.detector_evaluation import compare_detectors, load_pictures, table

logger = logging.getLogger("vidrestore")

CHECKPOINT_NAME = "checkpoint.pt"
CHECKPOINT_EVERY_S = 120.0
LOG_EVERY_STEPS = 50
WARMUP_STEPS = 200
GRADIENT_CLIP = 5.0
FOCAL_GAMMA = 2.0
"""The error of a prior is weighted by itself to this power (Li et al., Generalized Focal Loss, NeurIPS 2020): nearly
all priors are easy background."""
LOSS_WEIGHTS = {"class": 8.0, "box": 1.0, "landmark": 1.0}
"""Boxes to landmarks as RetinaFace was trained; the focal class loss is an order smaller than the plain one it stands
for. The hints' weight is part of the recipe."""
REGRESSION_BETA = 0.25
"""Below this (a fortieth of the prior's side) errors of boxes and landmarks count by their square, above it linearly.
RetinaFace's 1 hardly pulls any more where a landmark is off by a tenth of the eye distance."""
FACE_PROBABILITY_INIT = 0.01
"""What the untrained student says of every prior; without it the first steps go into unlearning faces everywhere."""
HINT_EPSILON = 1e-6
"""Features of less power than this say nothing."""
FIRST_SCENES = 256
"""Scenes made before the first step."""
HALF_MAX = 65504.0
"""The largest float16."""


@dataclass(frozen=True, slots=True)
class DetectorTraining:
    """The recipe: what `configs/train_retinaface_lite.toml` holds."""

    minutes: float
    """Wall clock; the learning rate falls to zero on the way (half a cosine)."""
    size_px: int
    """Side of the scenes."""
    batch_size: int
    pool_scenes: int
    """Scenes kept in memory, about 2 MB each at 448 px."""
    new_scenes_per_step: int
    clean_share: float
    """Share of scenes shown as they are; the others go through `degradation`."""
    peak_learning_rate: float
    weight_decay: float
    ema_decay: float
    hint_weight: float
    """At the peak learning rate; falls with it, so that hints lead at first and the outputs decide in the end."""
    bfloat16: bool
    seed: int
    degradation: Degradation

    @classmethod
    def from_toml(cls, path: Path) -> "DetectorTraining":
        """Raises OptionsError when the file is missing, an entry is unknown or missing, or has the wrong type."""
        try:
            values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as exc:
            raise OptionsError(f"{path}: cannot be read as TOML ({exc})") from exc
        fields = {field.name: field.type for field in dataclasses.fields(cls)}
        for key in sorted(values.keys() ^ fields.keys()):
            raise OptionsError(f"{path}: {key} is {'unknown' if key in values else 'missing'}")
        for key, value in values.items():
            kind = fields[key]
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                values[key] = float(value)
            elif isinstance(kind, type) and kind is not Degradation and type(value) is not kind:
                raise OptionsError(f"{path}: {key} is {value!r}; it must be of type {kind.__name__}")
        values["degradation"] = Degradation.from_config(values["degradation"])
        return cls(**values)


class SamplePool:
    """Labelled scenes in memory, renewed a few at a time so that making them never holds up learning."""

    def __init__(self, maker: SceneMaker, teacher: nn.Module, capacity: int, rng: np.random.Generator) -> None:
        self.maker, self.teacher, self.capacity, self.rng = maker, teacher, capacity, rng
        self.samples: list[Sample] = []

    def renew(self, count: int) -> None:
        """Make `count` new samples; beyond the capacity they replace random old ones."""
        scenes = [self.maker.make(self.rng) for _ in range(count)]
        for sample in label_scenes(self.teacher, scenes):
            if len(self.samples) < self.capacity:
                self.samples.append(sample)
            else:
                self.samples[int(self.rng.integers(self.capacity))] = sample

    def draw(self, count: int) -> list[Sample]:
        chosen = self.rng.choice(len(self.samples), size=count, replace=len(self.samples) < count)
        return [self.samples[index] for index in chosen]


def new_student(seed: int) -> nn.Module:
    """RetinaFace MobileNet-0.25 with random weights."""
    torch.manual_seed(seed)
    student = build_network("mobile0.25")
    with torch.no_grad():
        for level in range(len(STRIDES_PX)):
            bias = student.get_parameter(f"ClassHead.{level}.conv1x1.bias").view(-1, 2)  # (anchors, [background, face])
            bias[:, 0], bias[:, 1] = 0.0, math.log(FACE_PROBABILITY_INIT / (1 - FACE_PROBABILITY_INIT))
    return student


def detector_losses(
    boxes: Tensor, logits: Tensor, landmarks: Tensor, features: list[Tensor], samples: list[Sample]
) -> dict[str, Tensor]:
    """The student's outputs (N, P, ...) against N samples: `class`, `box`, `landmark` and `hint`, not yet weighted."""
    size_px = samples[0].image.shape[0]
    priors = priors_px(size_px, size_px)
    target = torch.stack([sample.probability for sample in samples])  # (N, P)
    face_logit = logits[..., 1] - logits[..., 0]
    error = (target - torch.sigmoid(face_logit)).abs().detach()
    cross_entropy = F.binary_cross_entropy_with_logits(face_logit, target, reduction="none")
    class_loss = (error**FOCAL_GAMMA * cross_entropy).sum() / target.sum().clamp(min=1)

    picture, prior = torch.nonzero(torch.stack([sample.face_index for sample in samples]) >= 0, as_tuple=True)
    box_targets, landmark_targets = [], []
    for sample in samples:
        on_face = torch.nonzero(sample.face_index >= 0).squeeze(1)
        face = sample.face_index[on_face]
        box_targets.append(encode_boxes(sample.boxes[face], priors[on_face]))
        landmark_targets.append(encode_landmarks(sample.landmarks[face], priors[on_face]))
    count = max(len(prior), 1)
    box_loss = smooth_l1(boxes[picture, prior], torch.cat(box_targets)) / count
    landmark_loss = smooth_l1(landmarks[picture, prior], torch.cat(landmark_targets)) / count

    hint_losses = []
    for level, feature in enumerate(features):
        hint = torch.stack([sample.hints[level] for sample in samples]).float()
        hint_losses.append(F.mse_loss(feature.float(), hint) / hint.square().mean().clamp(min=HINT_EPSILON))
    return {"class": class_loss, "box": box_loss, "landmark": landmark_loss, "hint": torch.stack(hint_losses).mean()}


def smooth_l1(values: Tensor, targets: Tensor) -> Tensor:
    """Sum over all elements, with `REGRESSION_BETA`."""
    return F.smooth_l1_loss(values, targets, reduction="sum", beta=REGRESSION_BETA)


def learning_rate(recipe: DetectorTraining, step: int, elapsed_s: float) -> float:
    """Linear warm-up over the first steps, then half a cosine over the wall clock."""
    progress = min(elapsed_s / (recipe.minutes * 60), 1.0)
    warmup = min((step + 1) / WARMUP_STEPS, 1.0)
    return recipe.peak_learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * progress))


def train(recipe: DetectorTraining, pool: SamplePool, out: Path) -> None:
    """Train until the recipe's minutes are over, checkpointing into `out`; goes on from a checkpoint found there.

    Ctrl-C leaves a checkpoint.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / CHECKPOINT_NAME
    student = new_student(recipe.seed).train().to(memory_format=torch.channels_last)
    ema = {key: tensor.clone() for key, tensor in student.state_dict().items()}
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.0, weight_decay=recipe.weight_decay)
    step, elapsed_before_s = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        student.load_state_dict(state["student"])
        optimizer.load_state_dict(state["optimizer"])
        ema, step, elapsed_before_s = state["ema"], state["step"], state["elapsed_s"]
        pool.rng = np.random.default_rng([recipe.seed, step])  # other scenes than those of the first part
        logger.info("resumed at step %d, %.1f min", step, elapsed_before_s / 60)
    while len(pool.samples) < min(FIRST_SCENES, recipe.pool_scenes):
        pool.renew(8)

    start_s = saved_s = time.monotonic()
    sums: dict[str, float] = {}
    num_summed = 0
    try:
        while (elapsed_s := elapsed_before_s + time.monotonic() - start_s) < recipe.minutes * 60:
            pool.renew(recipe.new_scenes_per_step)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step, elapsed_s)
            losses = train_step(recipe, student, optimizer, pool)
            step += 1
            update_ema(ema, student, min(recipe.ema_decay, (1 + step) / (10 + step)))
            num_summed += 1
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            if step % LOG_EVERY_STEPS == 0:
                means = "  ".join(f"{name} {total / num_summed:.4f}" for name, total in sums.items())
                logger.info("step %d  %.1f min  %s  pool %d", step, elapsed_s / 60, means, len(pool.samples))
                sums, num_summed = {}, 0
            if time.monotonic() - saved_s > CHECKPOINT_EVERY_S:
                save_checkpoint(checkpoint, student, ema, optimizer, step, elapsed_s)
                saved_s = time.monotonic()
    finally:
        elapsed_s = elapsed_before_s + time.monotonic() - start_s
        save_checkpoint(checkpoint, student, ema, optimizer, step, elapsed_s)
        logger.info("saved %s at step %d", checkpoint, step)


def train_step(
    recipe: DetectorTraining, student: nn.Module, optimizer: torch.optim.Optimizer, pool: SamplePool
) -> dict[str, float]:
    """One batch; returns the losses."""
    samples = pool.draw(recipe.batch_size)
    images = []
    for sample in samples:
        is_clean = pool.rng.random() < recipe.clean_share
        images.append(sample.image if is_clean else recipe.degradation(sample.image, pool.rng))
    x = network_input(np.stack(images), torch.device("cpu"))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bfloat16):
        features, boxes, logits, landmarks = features_and_outputs(student, x)
    losses = detector_losses(boxes.float(), logits.float(), landmarks.float(), features, samples)
    remaining = optimizer.param_groups[0]["lr"] / recipe.peak_learning_rate
    weights = LOSS_WEIGHTS | {"hint": recipe.hint_weight * remaining}
    total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
    optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(student.parameters(), GRADIENT_CLIP)
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}


@torch.no_grad()
def update_ema(ema: Mapping[str, Tensor], student: nn.Module, decay: float) -> None:
    """Move the running mean of the weights, batch statistics included, towards the student."""
    for key, tensor in student.state_dict().items():
        if tensor.is_floating_point():
            ema[key].lerp_(tensor, 1 - decay)
        else:
            ema[key].copy_(tensor)


def save_checkpoint(
    path: Path,
    student: nn.Module,
    ema: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
    elapsed_s: float,
) -> None:
    """Written beside and renamed: a cut leaves the old checkpoint."""
    state = {"student": student.state_dict(), "ema": dict(ema), "optimizer": optimizer.state_dict()}
    part = path.with_suffix(".part")
    torch.save({**state, "step": step, "elapsed_s": elapsed_s}, part)
    os.replace(part, path)


def export_detector(
    checkpoint: Path, target: Path, *, face_logit_offset: float = 0.0, figures: Mapping[str, Any] | None = None
) -> None:
    """Write the running mean of a checkpoint as safetensors: float16, batch statistics float32, with metadata.

    `face_logit_offset` is added to the logit of every face. A student that has seen so many degraded faces takes more
    for faces than its teacher; the offset puts its best score threshold at `SCORE_THRESHOLD`. Raises WeightsError when
    a value does not fit into float16.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    for level in range(len(STRIDES_PX)):
        state["ema"][f"ClassHead.{level}.conv1x1.bias"][1::2] += face_logit_offset  # [background, face] of each prior
    tensors = {}
    for key, tensor in state["ema"].items():
        if key.endswith(".num_batches_tracked"):
            continue
        if ".running_" in key:  # variances reach 1e5 where the input is 0..255: too much for float16
            tensors[key] = tensor.float().contiguous()
            continue
        if not tensor.abs().max() < HALF_MAX:
            raise WeightsError(f"{checkpoint}: {key} does not fit into float16; train again with a lower learning rate")
        tensors[key] = tensor.half().contiguous()
    network_from_state_dict(tensors, file_name=str(target))
    metadata = {
        "kind": "detector",
        "name": "retinaface-lite",
        "license": "non-commercial research (UTKFace took part in the training)",
        "data": "UTKFace, US Congress portraits, WebMorph portraits on backgrounds of scikit-image; "
        "by distillation from facexlib's RetinaFace MobileNet-0.25 (MIT)",
        "recipe": "configs/train_retinaface_lite.toml",
        "steps": str(state["step"]),
        "minutes": f"{state['elapsed_s'] / 60:.0f}",
        "face_logit_offset": str(face_logit_offset),
        "figures": json.dumps(figures or {}),
    }
    write_weights(tensors, metadata, target)


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, or the running mean of one of our checkpoints. Raises WeightsError."""
    if path.name == CHECKPOINT_NAME and path.exists():
        ema: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["ema"]
        return ema
    return read_state_dict(path)


@click.group()
def main() -> None:
    """Train, evaluate and export the embedded face detector."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


@main.command("train")
@click.option("--config", type=click.Path(path_type=Path), required=True)
@click.option("--faces", type=click.Path(path_type=Path), required=True, help="Folder with landmarks.tsv.")
@click.option("--teacher", type=click.Path(path_type=Path), required=True, help="RetinaFace weights.")
@click.option("--backgrounds", type=click.Path(path_type=Path), help="Folder of pictures; default: scikit-image's.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the checkpoint.")
@click.option("--threads", default=1, show_default=True)
def train_command(config: Path, faces: Path, teacher: Path, backgrounds: Path | None, out: Path, threads: int) -> None:
    """Train, or go on from the checkpoint in --out."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    recipe = DetectorTraining.from_toml(config)
    if backgrounds is None:
        skimage = find_spec("skimage")
        if skimage is None or not skimage.submodule_search_locations:
            raise InputError("no --backgrounds given and scikit-image is not installed; name a folder of pictures")
        backgrounds = Path(skimage.submodule_search_locations[0]) / "data"
    teacher_network = network_from_state_dict(load_state_dict(teacher), file_name=str(teacher))
    teacher_network = teacher_network.to(memory_format=torch.channels_last)
    maker = SceneMaker(load_face_pictures(faces), load_backgrounds(backgrounds), recipe.size_px)
    pool = SamplePool(maker, teacher_network, recipe.pool_scenes, np.random.default_rng(recipe.seed))
    train(recipe, pool, out)


@main.command("evaluate")
@click.option("--weights", type=click.Path(path_type=Path), required=True, help="Student: weights or checkpoint.")
@click.option("--teacher", type=click.Path(path_type=Path), required=True, help="RetinaFace weights.")
@click.option(
    "--pictures",
    "folders",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="Folder of stills or clips; may be repeated.",
)
@click.option("--frames", "num_frames", default=24, show_default=True, help="Frames taken from each clip.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the figures here.")
def evaluate_command(
    weights: Path, teacher: Path, folders: tuple[Path, ...], num_frames: int, json_path: Path | None
) -> None:
    """Compare the student with the teacher on pictures that took no part in the training."""
    torch.set_num_threads(1)  # small pictures: a second thread mostly waits
    student, reference = (as_detector(path) for path in (weights, teacher))
    results = {}
    for folder in folders:
        figures = compare_detectors(student, reference, load_pictures(folder, num_frames))
        click.echo(f"{folder.name}\n\n{table(figures)}\n")
        results[folder.name] = [dataclasses.asdict(row) for row in figures]
    if json_path:
        json_path.write_text(json.dumps(results, indent=1))


def as_detector(path: Path) -> RetinaFaceDetector:
    """A detector on the CPU from a weights file or a checkpoint of `train`."""
    spec = ModelSpec(path.stem, "detector", path.name, None, None, None, "unknown", str(path))
    return RetinaFaceDetector.from_state_dict(load_state_dict(path), spec=spec, sha256="", score_threshold=0.3)


@main.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--face-logit-offset", default=0.0, show_default=True, help="Added to the logit of every face.")
@click.option("--figures", type=click.Path(path_type=Path), help="What `evaluate --json` wrote.")
def export_command(checkpoint: Path, output: Path, face_logit_offset: float, figures: Path | None) -> None:
    """Write a checkpoint's running mean as safetensors."""
    known = json.loads(figures.read_text()) if figures else None
    export_detector(checkpoint, output, face_logit_offset=face_logit_offset, figures=known)


if __name__ == "__main__":
    try:
        main()
    except VidrestoreError as exc:
        raise SystemExit(f"error: {exc}") from exc
