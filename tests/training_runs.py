"""Tiny runs for the tests of training: networks of 32 px, faces of noise, a few steps."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import torch

from vidrestore.face import template_px
from vidrestore.models.gpen import GpenConfig
from vidrestore.training.config import AdversarialConfig, LoopConfig, TrainConfig
from vidrestore.training.data import DataConfig, DegradationConfig, FaceSet
from vidrestore.training.discriminator import DiscriminatorConfig
from vidrestore.training.losses import LossWeights
from vidrestore.training.packed import LANDMARK_COLUMNS
from vidrestore.training.ranks import Ranks

CPU = torch.device("cpu")
ALONE = Ranks(0, 1, CPU)


def tiny_config(steps: int) -> TrainConfig:
    return TrainConfig(
        name="tiny",
        template="tight",
        license="none",
        data_note="noise",
        model=GpenConfig(32, 1, 0.0625, 16, 2),
        degradation=DegradationConfig(mix={"soft": 1.0}),
        data=DataConfig(workers=0, val_share=0.3, softest_dropped=0.0, shift_px=2),
        losses=LossWeights(smooth_l1=1.0),
        loop=LoopConfig(steps=steps, batch_size=2, compile=False, threads=1, val_faces=4, warmup_steps=2),
    )


def tiny_adversarial_config(steps: int) -> TrainConfig:
    """Everything at once: a discriminator from the second step, both penalties, feature matching."""
    return dataclasses.replace(
        tiny_config(steps),
        losses=LossWeights(l1=1.0, adversarial=0.1, feature_matching=0.1, path_length=2.0),
        discriminator=DiscriminatorConfig(kind="stylegan2", channel_multiplier=1, width=0.0625),
        adversarial=AdversarialConfig(from_step=2, r1_every_steps=2, path_length_every_steps=3),
    )


def two_process_config() -> TrainConfig:
    """In float32 and with small steps: Adam would blow rounding differences of tiny gradients up."""
    config = tiny_config(4)
    return dataclasses.replace(
        config,
        losses=LossWeights(l1=1.0, adversarial=0.1, feature_matching=0.1, r1=1.0),
        discriminator=DiscriminatorConfig(kind="patch", smallest_px=32, base_channels=4),
        adversarial=AdversarialConfig(learning_rate=1e-4, r1_every_steps=2),
        loop=dataclasses.replace(config.loop, batch_size=4, bfloat16=False, learning_rate=1e-4),
    )


def smooth_faces() -> FaceSet:
    """Twenty smooth "faces" of 32 px."""
    coarse = torch.rand(20, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 255
    crops = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 255)
    return FaceSet(
        crops.permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy(),
        tuple(f"{number}.png" for number in range(20)),
        np.ones(20),
    )


def write_noise_faces(folder: Path) -> Path:
    """Twelve pictures of noise with landmarks, eyes 72 px apart; returns the folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["\t".join(["file", *LANDMARK_COLUMNS])]
    points = template_px("tight", 200).ravel().tolist()
    for number in range(12):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 255, (200, 200, 3), dtype=np.uint8))
        rows.append("\t".join([f"{number}.png", *map(str, points)]))
    (folder / "landmarks.tsv").write_text("\n".join(rows) + "\n")
    return folder


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> list[str]:
    """Names of the tensors that differ in any bit."""
    others = other.state_dict()
    return [key for key, value in one.state_dict().items() if not torch.equal(value, others[key])]
