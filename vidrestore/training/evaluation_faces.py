"""Which faces a restorer is evaluated on: such as it does not know, chosen alike on every call."""

import fnmatch
import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidrestore.errors import OptionsError, SourceError
from vidrestore.face import eye_distance_px, template_px
from vidrestore.models.backends.pytorch import load_detector
from vidrestore.models.catalog import EMBEDDED_DETECTOR
from vidrestore.models.spec import ModelSpec
from vidrestore.training.data import DataConfig, in_val, name_hash
from vidrestore.training.degrade_steps import Image
from vidrestore.training.packed import (
    LANDMARKS_TABLE,
    align_face,
    detail,
    found_landmarks_px,
    picture_names,
    read_landmarks,
    read_picture,
)

logger = logging.getLogger("vidrestore")

Split = Literal["val", "all"]

DEFAULT_COUNT = 96
"""Faces: about three minutes of two idle CPU cores for gpen-lite-256 (0.4 s of one core for each face and cell)."""


@dataclass(frozen=True, slots=True, eq=False)
class TrueFaces:
    """Aligned faces as they really are."""

    crops: NDArray[np.uint8]
    """(N, S, S, 3) RGB."""
    names: tuple[str, ...]
    """Of the files, relative to their folders."""


def load_true_faces(
    folders: Sequence[Path],
    spec: ModelSpec,
    *,
    count: int = DEFAULT_COUNT,
    split: Split = "val",
    only: str = "*",
    device: str = "auto",
) -> TrueFaces:
    """At most `count` faces for the restorer `spec`, chosen by the hash of their file names and in its order.

    Of a folder with `landmarks.tsv`, `split` leaves those that training with the same rule (`data.in_val`) never saw.
    Folders without one are taken for pictures apart from the training; the embedded detector finds the largest face in
    each. As in training, faces whose eyes are too near each other are left out, and the softest of the rest: they
    are not the truth. `only` is a pattern for file names, such as `gt_*`. Raises SourceError.
    """
    if count < 1:
        raise OptionsError(f"--count {count}: must be 1 or more")
    rules = DataConfig()
    detector = functools.cache(lambda: load_detector(EMBEDDED_DETECTOR, device=device))
    candidates = [candidate for folder in folders for candidate in _candidates(folder, split, only, rules)]
    candidates.sort(key=lambda candidate: (name_hash(candidate[1]), candidate[1]))
    assert spec.template is not None, "every restorer names its template"
    assert spec.crop_px is not None, "every restorer has a size"
    template = template_px(spec.template, spec.crop_px)
    num_wanted = int(np.ceil(count / (1 - rules.softest_dropped)))
    crops: list[Image] = []
    names: list[str] = []
    for folder, name, landmarks_px in candidates:
        if len(crops) == num_wanted:
            break
        picture = read_picture(folder / name)
        if landmarks_px is None:
            landmarks_px = found_landmarks_px(picture, detector())
        if landmarks_px is None or eye_distance_px(landmarks_px) < rules.min_eye_distance_px:
            logger.info("%s: left out, no face with its eyes %g px apart", folder / name, rules.min_eye_distance_px)
            continue
        crop = align_face(picture, landmarks_px, template, spec.crop_px)
        if crop is None:
            raise SourceError(f"{folder / name}: its landmarks lie outside the picture; mend them")
        crops.append(crop)
        names.append(name)
    if not crops:
        where = ", ".join(str(folder) for folder in folders)
        raise SourceError(f"{where}: no face to evaluate on; try --split all or another --only")
    softest_first = np.argsort([detail(crop) for crop in crops], kind="stable").tolist()
    softest = set(softest_first[: int(rules.softest_dropped * len(crops))])
    kept = [number for number in range(len(crops)) if number not in softest][:count]
    return TrueFaces(np.stack([crops[number] for number in kept]), tuple(names[number] for number in kept))


def _candidates(
    folder: Path, split: Split, only: str, rules: DataConfig
) -> Iterator[tuple[Path, str, NDArray[np.float64] | None]]:
    """(folder, file, landmarks where they are known) of every face that may be chosen."""
    if not folder.is_dir():
        raise SourceError(f"{folder}: is no folder; name a folder of faces (--faces)")
    table = folder / LANDMARKS_TABLE
    rows: Sequence[tuple[str, NDArray[np.float64] | None]]
    if table.is_file():
        rows = [row for row in read_landmarks(table) if eye_distance_px(row[1]) >= rules.min_eye_distance_px]
        if split == "val":
            rows = [row for row in rows if in_val(row[0], rules.val_share)]
    else:
        rows = [(name, None) for name in picture_names(folder)]
    yield from ((folder, name, points) for name, points in rows if fnmatch.fnmatchcase(Path(name).name, only))
