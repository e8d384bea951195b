"""What a detector's scenes are made of: pictures with one known face each, and backgrounds without any."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.errors import InputError, SourceError
from vidrestore.training.degrade_steps import Image
from vidrestore.training.packed import LANDMARKS_TABLE, read_columns, read_landmarks, read_picture

Points = NDArray[np.float32]

BOX_COLUMNS = ("x1", "y1", "x2", "y2")
"""Of `landmarks.tsv`: the face's box, beside its landmarks."""
PORTRAIT_MAX_SHARE = 0.6
"""A picture whose face takes less of its width shows shoulders too, and can stand for a person in a group."""
LONG_SIDE_PX = 800
"""Larger pictures are halved on loading: no scene shows a face that large, and decoding would be the bottleneck."""


@dataclass(frozen=True, slots=True, eq=False)
class FacePicture:
    """A picture with one known face, still compressed: ten thousand of them fit in memory."""

    data: bytes
    box_xyxy_px: Points
    landmarks_px: Points
    is_portrait: bool

    def decode(self) -> Image:
        picture = cv2.imdecode(np.frombuffer(self.data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None, "load_face_pictures has decoded it before"
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)

    @property
    def side_px(self) -> float:
        return face_side_px(self.box_xyxy_px)


def face_side_px(box_xyxy_px: Points) -> float:
    """The size of a face: root of its box's area."""
    width_px, height_px = box_xyxy_px[2:] - box_xyxy_px[:2]
    return float(np.sqrt(max(width_px, 0) * max(height_px, 0)))


def load_face_pictures(folder: Path) -> list[FacePicture]:
    """All pictures that `folder/landmarks.tsv` lists, with their boxes (columns `BOX_COLUMNS`) and five points, in px.

    Raises SourceError for a table or a picture that cannot be used.
    """
    table = folder / LANDMARKS_TABLE
    if not table.is_file():
        raise SourceError(f"{table}: no such file; the faces folder needs its table of landmarks")
    boxes = read_columns(table, BOX_COLUMNS)
    pictures = []
    for (name, landmarks_px), (_, box) in zip(read_landmarks(table), boxes, strict=True):
        picture = cv2.cvtColor(read_picture(folder / name), cv2.COLOR_RGB2BGR)
        data = (folder / name).read_bytes()
        points = np.concatenate((box, landmarks_px.ravel())).astype(np.float32)
        if max(picture.shape) > LONG_SIDE_PX:
            picture = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            points = ((points + 0.5) / 2 - 0.5).astype(np.float32)
        is_portrait = bool(points[2] - points[0] < PORTRAIT_MAX_SHARE * picture.shape[1])
        pictures.append(FacePicture(data, points[:4], points[4:].reshape(5, 2), is_portrait))
    if not any(picture.is_portrait for picture in pictures):
        raise SourceError(f"{table}: lists no portrait; groups of people cannot be made without")
    return pictures


def load_backgrounds(folder: Path) -> list[Image]:
    """Every picture in a folder (no faces wanted) as RGB. Raises InputError when there is none."""
    pictures = []
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"):
            picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if picture is not None and min(picture.shape[:2]) >= 64:
                pictures.append(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8))
    if not pictures:
        raise InputError(f"{folder}: holds no pictures for backgrounds")
    return pictures


def sample_backgrounds() -> Path:
    """The folder of scikit-image's sample pictures. Raises InputError when it is not installed."""
    found = find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise InputError("scikit-image is not installed; name a folder of pictures (--backgrounds)")
    return Path(found.submodule_search_locations[0]) / "data"
