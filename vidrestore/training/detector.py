"""Training of the embedded face detector by distillation, and its export.

A RetinaFace with random weights (the student) learns from one that exists (the teacher), in two parts:

1. Layer by layer (`detector_layers.py`): each layer of the student is to do what the teacher's does.
2. From end to end and densely: at every prior of a scene it must give the teacher's probability, at priors on a face
   its box and landmarks, and on the way the teacher's features ("hints", Romero et al., FitNets, ICLR 2015). Now the
   teacher has seen the clean scene, the student sees it degraded: so it holds on longer in bad video.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore.errors import OptionsError, WeightsError
from vidrestore.models.face_detector import (
    build_network,
    encode_boxes,
    encode_landmarks,
    network_from_state_dict,
    network_input,
    priors_px,
)
from vidrestore.models.state_dict import read_state_dict
from vidrestore.models.weights import write_weights
from vidrestore.training.checkpoint import checkpoints, load_checkpoint, newest_checkpoint, save_checkpoint
from vidrestore.training.config import read_toml, section_from
from vidrestore.training.degrade import Degradation
from vidrestore.training.detector_labels import Sample, features_and_outputs, label_scenes
from vidrestore.training.detector_layers import LayerRecorder, layer_errors
from vidrestore.training.detector_scenes import SceneMaker
from vidrestore.training.export import source_commit, to_half
from vidrestore.training.schedule import learning_rate_share, update_ema
from vidrestore.training.stopping import StopSignal

logger = logging.getLogger("vidrestore")

CHECKPOINTS_KEPT = 2
SAVE_EVERY_STEPS = 250
LOG_EVERY_STEPS = 50
WARMUP_STEPS = 50
"""Of each part."""
FINAL_SHARE = 0.01
"""Of the learning rate, at the end of each part."""
NORM_RATE = 8.0
"""Learning rate of the normalisations' scales and shifts, relative to the kernels', in the first part: many of the
teacher's channels are nearly constant, and the student's scales must come down to them from 1."""
STATISTICS_STEPS = 30
"""In which the normalisations learn the mean and variance of what they get, with a momentum of 0.1."""
LAYER_SIDE_PX = 224
"""Side of the pieces of scenes in the first part. Layers see little at once, and need many steps rather than much at
each: edge kernels are small differences of large, nearly equal inputs, and are found slowly."""
LAYER_STEPS_PER_SCENE = 4
"""Likewise: scenes are renewed more rarely there, as their labels cost more than such a step."""
MATCHED_SHARE = 0.5
"""Of the weights at the end of the first part, in what is exported; the rest are the second part's. Between the two
lie networks that are nearly as exact on good pictures as the first and as steady on bad ones as the second (Wortsman et
al., "Robust fine-tuning of zero-shot models", CVPR 2022): landmark errors 1.9%, 2.7% and 4.5% of the eye distance at
shares of 1, 0.5 and 0; faces found in degraded clips 93%, 98% and 100% (`tests/bench/README.md`)."""
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
HINT_EPSILON = 1e-6
"""Features of less power than this say nothing."""
FIRST_SCENES = 64
"""Scenes made before the first step."""


@dataclass(frozen=True, slots=True)
class DetectorTraining:
    """The recipe: what `configs/train_retinaface_lite.toml` holds."""

    layer_steps: int
    """Of the first part."""
    steps: int
    """Of the second."""
    layer_learning_rate: float
    learning_rate: float
    size_px: int
    """Side of the scenes."""
    batch_size: int
    pool_scenes: int
    """Scenes kept in memory, about 2 MB each at 448 px."""
    new_scenes_per_step: int
    clean_share: float
    """Share of scenes shown as they are; the others go through `degradation`."""
    weight_decay: float
    ema_decay: float
    hint_weight: float
    """At the peak learning rate; falls with it, so that hints lead at first and the outputs decide in the end."""
    bfloat16: bool
    threads: int
    seed: int
    license: str
    """Of the trained weights: it follows from the data."""
    data_note: str
    """What it was trained on, for the weights' metadata."""
    degradation: Degradation

    @classmethod
    def from_toml(cls, path: Path) -> "DetectorTraining":
        """Raises OptionsError when the file is missing, an entry is unknown or missing, or has the wrong type."""
        values = read_toml(path)
        try:
            values["degradation"] = Degradation.from_config(values.get("degradation", []))
            return section_from(cls, "the recipe", values)
        except OptionsError as exc:
            raise OptionsError(f"{path}: {exc}; mend the file") from exc


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
    return build_network("mobile0.25").train().to(memory_format=torch.channels_last)


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


class DetectorState:
    """All that a step changes: the student, its moving average, the optimizer, and how far the run is."""

    def __init__(self, recipe: DetectorTraining) -> None:
        self.recipe = recipe
        self.student = new_student(recipe.seed)
        self.ema = new_student(recipe.seed).requires_grad_(False)
        self.steps_done = 0
        self.begin_part()

    @property
    def is_layerwise(self) -> bool:
        return self.steps_done < self.recipe.layer_steps

    @property
    def steps_in_part(self) -> int:
        return self.steps_done if self.is_layerwise else self.steps_done - self.recipe.layer_steps

    def begin_part(self) -> None:
        """A fresh optimizer and a fresh average for the part that the next step belongs to; keeps what came before."""
        self.ema.load_state_dict(self.student.state_dict())
        self.matched = {key: tensor.clone() for key, tensor in self.student.state_dict().items()}
        norms = [module for module in self.student.modules() if isinstance(module, nn.BatchNorm2d)]
        scales = [parameter for norm in norms for parameter in norm.parameters()]
        known = {id(parameter) for parameter in scales}
        kernels = [parameter for parameter in self.student.parameters() if id(parameter) not in known]
        groups = [{"params": kernels, "factor": 1.0}, {"params": scales, "factor": 1.0}]
        if self.is_layerwise:
            groups[1]["factor"] = NORM_RATE
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam(groups, lr=0.0)
        else:
            self.optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=self.recipe.weight_decay)

    def set_rate(self) -> float:
        """Set the learning rate of this step; returns its share of the peak."""
        recipe = self.recipe
        length = recipe.layer_steps if self.is_layerwise else recipe.steps
        peak = recipe.layer_learning_rate if self.is_layerwise else recipe.learning_rate
        share = learning_rate_share(self.steps_in_part, length, warmup_steps=WARMUP_STEPS, final_share=FINAL_SHARE)
        for group in self.optimizer.param_groups:
            group["lr"] = peak * share * group["factor"]
        return share

    def freeze_statistics(self) -> None:
        """After the first steps batch statistics are known, and stay what they are.

        Those of a few pictures swing so much that layers could not come nearer than 10% to 30% to the teacher's.
        """
        is_frozen = self.steps_done >= STATISTICS_STEPS
        for module in self.student.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train(not is_frozen)

    def save(self, folder: Path) -> Path:
        student = self.student.state_dict()
        is_in_first_part = self.steps_done <= self.recipe.layer_steps
        tables = {
            "student": student,
            "ema": student if is_in_first_part else self.ema.state_dict(),
            "matched": student if is_in_first_part else self.matched,
            "optimizer": self.optimizer.state_dict(),
            "steps_done": self.steps_done,
            "license": self.recipe.license,
            "data_note": self.recipe.data_note,
        }
        return save_checkpoint(tables, folder, steps_done=self.steps_done, kept=CHECKPOINTS_KEPT)

    def resume(self, path: Path) -> None:
        """Raises WeightsError when it is no checkpoint of this recipe."""
        saved = load_checkpoint(path)
        try:
            self.student.load_state_dict(saved["student"])
            self.steps_done = saved["steps_done"]
            self.begin_part()
            if self.steps_in_part:
                self.ema.load_state_dict(saved["ema"])
                self.matched = saved["matched"]
                self.optimizer.load_state_dict(saved["optimizer"])
        except (KeyError, ValueError, RuntimeError) as exc:
            reason = str(exc).splitlines()[0]
            raise WeightsError(f"{path}: does not fit this recipe ({reason}); use another --folder") from exc


def train_detector(
    recipe: DetectorTraining, maker: SceneMaker, teacher: nn.Module, folder: Path, stop: StopSignal | None = None
) -> DetectorState:
    """Run both parts to the end, or go on from the newest checkpoint in `folder`.

    What was cut goes on with other scenes than an uncut run would have seen: those in memory are lost.
    """
    torch.set_num_threads(recipe.threads)
    cv2.setNumThreads(recipe.threads)
    state = DetectorState(recipe)
    if saved := checkpoints(folder):
        state.resume(saved[-1])
        logger.info("going on from %s", saved[-1])
    pool = SamplePool(maker, teacher, recipe.pool_scenes, np.random.default_rng([recipe.seed, state.steps_done]))
    pool.renew(min(FIRST_SCENES, recipe.pool_scenes))
    recorder = LayerRecorder(teacher)
    sums: dict[str, float] = {}
    while state.steps_done < recipe.layer_steps + recipe.steps and not (stop is not None and stop.is_set):
        if state.steps_done == recipe.layer_steps:
            state.begin_part()
        if not state.is_layerwise or state.steps_done % LAYER_STEPS_PER_SCENE == 0:
            pool.renew(recipe.new_scenes_per_step)
        figures = layer_step(state, pool, recorder) if state.is_layerwise else output_step(state, pool)
        if not state.is_layerwise:  # layers on their way to the teacher's, one by one, have no use for an average
            update_ema(state.ema, state.student, recipe.ema_decay, state.steps_in_part + 1)
        state.steps_done += 1
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + value / LOG_EVERY_STEPS
        if state.steps_done % LOG_EVERY_STEPS == 0:
            means = "  ".join(f"{name} {mean:.4f}" for name, mean in sums.items())
            logger.info("step %d  %s  pool %d", state.steps_done, means, len(pool.samples))
            sums = {}
        if state.steps_done % SAVE_EVERY_STEPS == 0:
            state.save(folder)
    logger.info("saved %s", state.save(folder))
    return state


def draw_batch(recipe: DetectorTraining, pool: SamplePool) -> tuple[list[Sample], Tensor]:
    """Samples, and their pictures as the student sees them."""
    samples = pool.draw(recipe.batch_size)
    images = []
    for sample in samples:
        is_clean = pool.rng.random() < recipe.clean_share
        images.append(sample.image if is_clean else recipe.degradation(sample.image, pool.rng))
    return samples, network_input(np.stack(images), torch.device("cpu"))


def layer_step(state: DetectorState, pool: SamplePool, teacher: LayerRecorder) -> dict[str, float]:
    """One batch of the first part; student and teacher see the same pictures."""
    state.set_rate()
    state.freeze_statistics()
    _, x = draw_batch(state.recipe, pool)
    top, left = pool.rng.integers(0, x.shape[-1] - min(x.shape[-1], LAYER_SIDE_PX) + 1, size=2)
    x = x[:, :, top : top + LAYER_SIDE_PX, left : left + LAYER_SIDE_PX]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=state.recipe.bfloat16):
        teacher(x)
        errors = torch.stack(list(layer_errors(state.student, teacher).values()))
    state.optimizer.zero_grad(set_to_none=True)
    errors.sum().backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    return {"layers": errors.mean().item(), "worst": errors.max().item()}


def output_step(state: DetectorState, pool: SamplePool) -> dict[str, float]:
    """One batch of the second part."""
    share = state.set_rate()
    state.freeze_statistics()
    samples, x = draw_batch(state.recipe, pool)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=state.recipe.bfloat16):
        features, boxes, logits, landmarks = features_and_outputs(state.student, x)
    losses = detector_losses(boxes.float(), logits.float(), landmarks.float(), features, samples)
    weights = LOSS_WEIGHTS | {"hint": state.recipe.hint_weight * share}
    total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
    state.optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.student.parameters(), GRADIENT_CLIP)
    state.optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}


def export_detector(checkpoint: Path, target: Path, *, figures: Mapping[str, Any] | None = None) -> None:
    """Write what a checkpoint (or a run's newest) has learnt as safetensors with metadata; see `MATCHED_SHARE`.

    float16, batch statistics float32. Raises WeightsError when a value does not fit into float16.
    """
    checkpoint = newest_checkpoint(checkpoint)
    saved = load_checkpoint(checkpoint)
    if "matched" not in saved:
        raise WeightsError(f"{checkpoint}: is no checkpoint of a detector's training")
    tensors = {}
    for key, tensor in saved["ema"].items():
        if key.endswith(".num_batches_tracked"):
            continue
        tensor = torch.lerp(tensor, saved["matched"][key], MATCHED_SHARE)
        if ".running_" in key:  # variances reach 1e5 where the input is 0..255: too much for float16
            tensors[key] = tensor.float().contiguous()
            continue
        tensors[key] = to_half(tensor, key, checkpoint, remedy="train again with a lower learning rate")
    network_from_state_dict(tensors, file_name=str(target))
    metadata = {
        "kind": "detector",
        "name": "retinaface-lite",
        "license": saved["license"],
        "data": saved["data_note"],
        "recipe": "configs/train_retinaface_lite.toml",
        "commit": source_commit(),
        "steps": str(saved["steps_done"]),
        "figures": json.dumps(figures or {}),
    }
    write_weights(tensors, metadata, target)


def load_teacher(path: Path) -> nn.Module:
    """A RetinaFace for labelling, from any weights file. Raises WeightsError."""
    network = network_from_state_dict(read_state_dict(path), file_name=str(path))
    return network.to(memory_format=torch.channels_last)
