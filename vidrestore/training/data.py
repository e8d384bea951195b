"""Faces for training: aligned once into one packed array, split by name, degraded anew for every step."""

import csv
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidrestore.errors import OptionsError, SourceError
from vidrestore.face import template_px
from vidrestore.stages.crop_geometry import similarity
from vidrestore.training.degrade import PRESETS, Degradation, Image

logger = logging.getLogger("vidrestore")

LANDMARK_COLUMNS = ("leye", "reye", "nose", "lmouth", "rmouth")
"""Of landmarks.tsv, in the order of `face.LANDMARKS`; each has an `_x` and a `_y`."""
PIXEL_SIGMA = 0.4
"""A pixel seen as a Gaussian of this many pixels: sharp without visible aliasing when faces are shrunk."""


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which faces, and how they are shown to the network."""

    faces: str = "faces"
    """Folder with pictures and `landmarks.tsv` (columns file, leye_x, leye_y, ...; px)."""
    cache: str = "runs/cache"
    """Folder for the packed crops, made on the first run."""
    min_eye_distance_px: float = 60.0
    """In the source picture. Softer faces teach softness."""
    softest_dropped: float = 0.15
    """Share of the crops left out because they have the least detail."""
    val_share: float = 0.02
    source_weights: Mapping[str, float] = field(default_factory=dict)
    """How much more often faces of a subfolder are shown; 1 where not named."""
    shift_px: int = 6
    """Largest shift of a crop in training: detectors are not exact to the pixel."""
    workers: int = 1
    """Processes that prepare batches; 0 prepares them between the steps."""


def align_face(image: Image, landmarks_px: NDArray[Any], template: NDArray[Any], crop_px: int) -> Image:
    """(H, W, 3) -> (crop_px, crop_px, 3): the face moved to the template, (5, 2) px, low-passed first when shrunk."""
    matrix = similarity(np.asarray(landmarks_px, np.float64), template)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 1:
        image = cv2.GaussianBlur(image, (0, 0), PIXEL_SIGMA * np.sqrt(1 / scale**2 - 1))
    # Mirrored beyond the border: tight pictures end inside the crop, and smeared edges would be learnt.
    border = cv2.BORDER_REFLECT_101
    crop: Image = cv2.warpAffine(image, matrix, (crop_px, crop_px), flags=cv2.INTER_CUBIC, borderMode=border)
    return crop


@dataclass(frozen=True, slots=True, eq=False)
class FaceSet:
    """All aligned crops."""

    crops: NDArray[np.uint8]
    """(N, S, S, 3) RGB, mapped from the cache file."""
    names: tuple[str, ...]
    """Of the source files, relative to the folder of faces."""
    sharpness: NDArray[np.float64]
    """(N,) `detail` of each crop."""


def pack_faces(config: DataConfig, template_name: str, crop_px: int) -> FaceSet:
    """Align every face of the folder, or map the packed file that an earlier run left. Raises SourceError."""
    table = Path(config.faces) / "landmarks.tsv"
    if not table.is_file():
        raise SourceError(f"{table}: there is no such file; name a folder of faces with its landmarks (--faces)")
    rows = [
        (name, points)
        for name, points in read_landmarks(table)
        if eye_distance_px(points) >= config.min_eye_distance_px
    ]
    if not rows:
        raise SourceError(f"{table}: no face has its eyes {config.min_eye_distance_px} px apart; lower the limit")
    settings = f"{table.resolve()} {table.stat().st_size} {template_name} {crop_px} {config.min_eye_distance_px}"
    key = hashlib.sha256(settings.encode()).hexdigest()[:8]
    packed = Path(config.cache) / f"faces_{template_name}_{crop_px}_{key}.npy"
    index = packed.with_suffix(".json")
    if not index.is_file():
        packed.parent.mkdir(parents=True, exist_ok=True)
        _pack(Path(config.faces), rows, template_name, crop_px, packed, index)
    facts = json.loads(index.read_text())
    return FaceSet(np.load(packed, mmap_mode="r"), tuple(facts["names"]), np.array(facts["sharpness"]))


def _pack(
    folder: Path,
    rows: Sequence[tuple[str, NDArray[np.float64]]],
    template_name: str,
    crop_px: int,
    packed: Path,
    index: Path,
) -> None:
    """Write the crops and, once they are complete, their index."""
    logger.info("aligning %d faces into %s", len(rows), packed)
    template = template_px(template_name, crop_px)
    partial = packed.with_suffix(".part")
    crops = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(rows), crop_px, crop_px, 3))
    sharpness = []
    for number, (name, points) in enumerate(rows):
        picture = cv2.imread(str(folder / name), cv2.IMREAD_COLOR)
        if picture is None:
            raise SourceError(f"{folder / name}: cannot be read as a picture; mend it or remove its landmarks")
        crop = align_face(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), points, template, crop_px)
        crops[number] = crop
        sharpness.append(detail(crop))
    crops.flush()
    os.replace(partial, packed)
    index.write_text(json.dumps({"names": [name for name, _ in rows], "sharpness": sharpness}))


def read_landmarks(table: Path) -> list[tuple[str, NDArray[np.float64]]]:
    """(file, (5, 2) px) of every row of a tab-separated table."""
    with table.open(newline="") as lines:
        return [
            (row["file"], np.array([[float(row[f"{name}_{axis}"]) for axis in "xy"] for name in LANDMARK_COLUMNS]))
            for row in csv.DictReader(lines, delimiter="\t")
        ]


def eye_distance_px(landmarks_px: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(landmarks_px[1] - landmarks_px[0]))


def detail(crop: Image) -> float:
    """Mean absolute Laplacian of the crop's middle at half size, relative to its brightness.

    Relative, because the same pores and lashes give smaller differences on dark skin and in dim light.
    """
    side_px = crop.shape[0]
    middle = cv2.cvtColor(crop[side_px // 4 : -side_px // 4, side_px // 4 : -side_px // 4], cv2.COLOR_RGB2GRAY)
    half = cv2.resize(middle, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return float(np.abs(cv2.Laplacian(half, cv2.CV_32F)).mean() / (half.mean() + 1))


def in_val(name: str, share: float) -> bool:
    """Whether a file belongs to validation: by its name alone, so that adding files moves no other."""
    digest = hashlib.sha256(Path(name).name.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split(faces: FaceSet, config: DataConfig) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of the faces for training and for validation, without the softest."""
    sharp = faces.sharpness >= np.quantile(faces.sharpness, config.softest_dropped)
    val = np.array([in_val(name, config.val_share) for name in faces.names])
    train_indices, val_indices = np.flatnonzero(sharp & ~val), np.flatnonzero(sharp & val)
    if not len(train_indices) or not len(val_indices):
        raise SourceError(f"{config.faces}: {len(faces.names)} faces are too few to split; add more or raise val_share")
    return train_indices, val_indices


def show_weights(faces: FaceSet, indices: NDArray[np.intp], config: DataConfig) -> NDArray[np.float64]:
    """(len(indices),) probability of each face to be shown."""
    weights = np.array([config.source_weights.get(faces.names[index].split("/")[0], 1.0) for index in indices])
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True, slots=True)
class DegradationConfig:
    """How faces are damaged."""

    mix: Mapping[str, float]
    """Share of each sequence: a preset of `degrade.PRESETS`, or one of `sequences`."""
    length_scale: float = 0.5
    """Of the presets' lengths, which are for 512 px crops."""
    sequences: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Sequences of this run alone: rows as `Degradation.from_config` takes them, lengths in px of the crop."""


class DegradationMix:
    """Draws one of several degradations for each face."""

    def __init__(self, config: DegradationConfig) -> None:
        """Raises OptionsError for an unknown sequence or shares that are not positive."""
        if not config.mix or min(config.mix.values()) <= 0:
            raise OptionsError(f"degradation mix is {dict(config.mix)}; every share must be above 0")
        self.degradations = []
        for name in config.mix:
            if name in config.sequences:
                self.degradations.append(Degradation.from_config(config.sequences[name]))
            elif name in PRESETS:
                self.degradations.append(Degradation.preset(name, length_scale=config.length_scale))
            else:
                known = ", ".join([*PRESETS, *config.sequences])
                raise OptionsError(f"degradation mix names {name!r}; there are {known}")
        shares = np.array(list(config.mix.values()))
        self.shares = shares / shares.sum()

    def pair(self, image: Image, rng: np.random.Generator) -> tuple[Image, Image]:
        """(S, S, 3) uint8 RGB -> (degraded, target)."""
        return self.degradations[rng.choice(len(self.degradations), p=self.shares)].pair(image, rng)


class PairBatches(Dataset[tuple[Tensor, Tensor]]):
    """Batch number k of a run: (degraded, target), each (B, 3, S, S) uint8.

    It depends on the seed and k alone, so any number of workers, and a run that was cut, see the same batches.
    """

    def __init__(
        self,
        faces: FaceSet,
        indices: NDArray[np.intp],
        weights: NDArray[np.float64],
        mix: DegradationMix,
        *,
        batch_size: int,
        shift_px: int,
        seed: int,
    ) -> None:
        self.faces, self.indices, self.weights, self.mix = faces, indices, weights, mix
        self.batch_size, self.shift_px, self.seed = batch_size, shift_px, seed

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, number))
        chosen = rng.choice(self.indices, size=self.batch_size, p=self.weights)
        pairs = [self.mix.pair(self._vary(self.faces.crops[index], rng), rng) for index in chosen]
        return stack_images([pair[0] for pair in pairs]), stack_images([pair[1] for pair in pairs])

    def _vary(self, crop: Image, rng: np.random.Generator) -> Image:
        """Mirror half of the faces, and shift all by whole pixels (which costs no sharpness)."""
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        side_px, margin_px = crop.shape[0], self.shift_px
        padded = np.pad(crop, ((margin_px, margin_px), (margin_px, margin_px), (0, 0)), mode="reflect")
        top, left = rng.integers(0, 2 * margin_px + 1, size=2)
        return np.ascontiguousarray(padded[top : top + side_px, left : left + side_px])


def val_pairs(faces: FaceSet, indices: NDArray[np.intp], mix: DegradationMix) -> tuple[Tensor, Tensor]:
    """(degraded, target), each (N, 3, S, S) uint8: every face as it is, with a degradation fixed by its place."""
    pairs = [mix.pair(np.array(faces.crops[index]), np.random.default_rng(int(index))) for index in indices]
    return stack_images([pair[0] for pair in pairs]), stack_images([pair[1] for pair in pairs])


def stack_images(images: Sequence[Image]) -> Tensor:
    """N of (S, S, 3) -> (N, 3, S, S) uint8."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def to_network(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1
