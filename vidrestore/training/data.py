"""Faces for training: aligned once into a packed file, split by name, degraded anew for every step.

Needs PyTorch, numpy and OpenCV only.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidrestore.errors import OptionsError, SourceError
from vidrestore.training.degrade import PRESETS, Degradation
from vidrestore.training.degrade_steps import Image
from vidrestore.training.packed import (
    FINE_JPEG_QUALITY,
    FORMAT_VERSION,
    LANDMARKS_TABLE,
    PackedFaces,
    pack,
    picture_names,
)

logger = logging.getLogger("vidrestore")


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which faces, and how they are shown to the network."""

    faces: str = "faces"
    """Folder of pictures, with or without `landmarks.tsv`; or a packed file."""
    cache: str = "runs/cache"
    """Folder where the faces of a folder are packed on the first run."""
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

    def __post_init__(self) -> None:
        """Raises OptionsError."""
        if self.shift_px < 0 or self.workers < 0:
            raise OptionsError(f"shift_px is {self.shift_px} and workers is {self.workers}; neither can be below 0")
        for name in ("softest_dropped", "val_share"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionsError(f"{name} is {getattr(self, name)}; it must be from 0 to below 1")
        weights = self.source_weights
        if not isinstance(weights, Mapping) or not all(isinstance(w, (int, float)) and w > 0 for w in weights.values()):
            raise OptionsError(f"source_weights is {weights!r}; it must be a table of numbers above 0")


class Crops(Protocol):
    """Aligned faces by number: an array (N, S, S, 3), or `PackedCrops`."""

    def __getitem__(self, number: int, /) -> Any:
        """(S, S, 3) uint8 RGB."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FaceSet:
    """Aligned faces, wherever they came from."""

    crops: Crops
    names: tuple[str, ...]
    """Of the source files, relative to the folder of faces."""
    sharpness: NDArray[np.float64]
    """(N,) `packed.detail` of each crop."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedCrops:
    """Some faces of a packed file, decoded when they are asked for."""

    packed: PackedFaces
    members: NDArray[np.intp]
    """(N,) their numbers in the file."""
    crop_px: int

    def __getitem__(self, number: int, /) -> Image:
        return self.packed.crop(int(self.members[number]), self.crop_px)


def load_faces(config: DataConfig, template: str, crop_px: int) -> FaceSet:
    """The faces whose eyes are `min_eye_distance_px` apart, of a packed file or of a folder, packed on the first run.

    Raises SourceError when there are none, or a packed file has another template.
    """
    source = Path(config.faces)
    packed = _packed_once(source, Path(config.cache), template, crop_px) if source.is_dir() else PackedFaces(source)
    if packed.template != template:
        raise SourceError(f"{source}: was packed for template {packed.template}, not {template}; pack the faces for it")
    if packed.crop_px < crop_px:
        logger.info("%s: its crops of %d px are enlarged to %d px", source, packed.crop_px, crop_px)
    members = np.flatnonzero(packed.eye_distance_px >= config.min_eye_distance_px)
    if not len(members):
        raise SourceError(f"{source}: no face has its eyes {config.min_eye_distance_px:g} px apart; lower the limit")
    names = tuple(packed.names[number] for number in members)
    return FaceSet(PackedCrops(packed, members, crop_px), names, packed.sharpness[members])


def _packed_once(folder: Path, cache: Path, template: str, crop_px: int) -> PackedFaces:
    """Pack a folder into the cache, or open what an earlier run packed from the same files."""
    table = folder / LANDMARKS_TABLE
    deciding = [folder / name for name in picture_names(folder)] + ([table] if table.is_file() else [])
    facts = [f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in deciding]
    key = hashlib.sha256("\n".join([f"{folder.resolve()} {FORMAT_VERSION}", *facts]).encode()).hexdigest()[:8]
    path = cache / f"faces_{template}_{crop_px}_{key}.zip"
    if path.is_file():
        return PackedFaces(path)
    cache.mkdir(parents=True, exist_ok=True)
    return pack(folder, path, template, crop_px, FINE_JPEG_QUALITY)


def name_hash(name: str) -> int:
    """64 bits that depend on the file's name alone, not on its folder, and are the same for ever."""
    return int.from_bytes(hashlib.sha256(Path(name).name.encode()).digest()[:8], "big")


def in_val(name: str, share: float) -> bool:
    """Whether a file belongs to validation: by its name alone, so that adding files moves no other."""
    return name_hash(name) < share * 2**64


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

    def __post_init__(self) -> None:
        """Raises OptionsError."""
        shares = self.mix.values() if isinstance(self.mix, Mapping) else [None]
        if not shares or not all(isinstance(share, (int, float)) and share > 0 for share in shares):
            raise OptionsError(f"degradation mix is {self.mix!r}; it must be a table of shares above 0")


class DegradationMix:
    """Draws one of several degradations for each face."""

    def __init__(self, config: DegradationConfig) -> None:
        """Raises OptionsError for an unknown sequence or shares that are not positive."""
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
    """Batch number k of a run: this rank's part of its (degraded, target), each (B / R, 3, S, S) uint8.

    Item i of the B depends on the seed, k and i alone, and rank r of R prepares the items r, r + R, ... So a run that
    was cut, and any number of workers and ranks, see the same batches.
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
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        """`batch_size` is that of all ranks together. Raises OptionsError when they cannot share it equally."""
        if batch_size < 1 or batch_size % num_ranks:
            raise OptionsError(f"batch_size is {batch_size}; it must be a multiple of the {num_ranks} ranks")
        if not 0 <= rank < num_ranks:
            raise ValueError(f"rank is {rank}; it must be from 0 to {num_ranks - 1}")
        self.faces, self.indices, self.weights, self.mix = faces, indices, weights, mix
        self.shift_px, self.seed = shift_px, seed
        self.items = range(rank, batch_size, num_ranks)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        pairs = [self._pair(np.random.default_rng((self.seed, number, item))) for item in self.items]
        return stack_images([pair[0] for pair in pairs]), stack_images([pair[1] for pair in pairs])

    def _pair(self, rng: np.random.Generator) -> tuple[Image, Image]:
        chosen = int(rng.choice(self.indices, p=self.weights))
        return self.mix.pair(self._vary(self.faces.crops[chosen], rng), rng)

    def _vary(self, crop: Image, rng: np.random.Generator) -> Image:
        """Mirror half of the faces, and shift all by whole pixels (which costs no sharpness)."""
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        side_px, margin_px = crop.shape[0], self.shift_px
        padded = np.pad(crop, ((margin_px, margin_px), (margin_px, margin_px), (0, 0)), mode="reflect")
        top, left = rng.integers(0, 2 * margin_px + 1, size=2)
        return np.ascontiguousarray(padded[top : top + side_px, left : left + side_px])


def val_pairs(faces: FaceSet, indices: NDArray[np.intp], mix: DegradationMix) -> tuple[Tensor, Tensor]:
    """(degraded, target), each (N, 3, S, S) uint8: every face as it is, with a degradation fixed by its name."""
    pairs = [
        mix.pair(np.array(faces.crops[int(index)]), np.random.default_rng(name_hash(faces.names[index])))
        for index in indices
    ]
    return stack_images([pair[0] for pair in pairs]), stack_images([pair[1] for pair in pairs])


def stack_images(images: Sequence[Image]) -> Tensor:
    """N of (S, S, 3) -> (N, 3, S, S) uint8."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def to_network(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1
