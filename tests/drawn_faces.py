"""Made-up pictures of faces whose landmarks are known, for the tests of training."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.face import template_px
from vidrestore.training.detector_pictures import BOX_COLUMNS, FacePicture, load_face_pictures
from vidrestore.training.detector_scenes import SceneMaker
from vidrestore.training.packed import LANDMARK_COLUMNS

BOX = np.array([30, 32, 70, 88], np.float32)
POINTS = np.array([[40, 50], [60, 50], [50, 62], [43, 74], [57, 74]], np.float32)
"""Box and landmarks of the drawn face, in a picture of 100 x 140 px."""


def drawn_face(seed: int = 0) -> NDArray[np.uint8]:
    """(140, 100, 3): a head with eyes, nose and mouth corners as green dots, on a plain ground."""
    rng = np.random.default_rng(seed)
    image = np.full((140, 100, 3), rng.integers(90, 200, 3), np.uint8)
    cv2.ellipse(image, (50, 60), (20, 28), 0, 0, 360, (210, 170, 150), -1)
    for x, y in POINTS.astype(int).tolist():
        cv2.circle(image, (x, y), 2, (0, 255, 0), -1)
    return image


def drawn_portrait() -> FacePicture:
    """The drawn face as a portrait, without loss."""
    data = cv2.imencode(".png", drawn_face()[:, :, ::-1])[1].tobytes()
    return FacePicture(data, BOX, POINTS, True)


def write_drawn_faces(folder: Path) -> Path:
    """Six of them with their table of boxes and landmarks; returns the folder."""
    folder.mkdir()
    rows = ["\t".join(["file", "score", *BOX_COLUMNS, *LANDMARK_COLUMNS])]
    for index in range(6):
        cv2.imwrite(str(folder / f"{index}.png"), drawn_face(index)[:, :, ::-1])
        numbers = [*BOX.tolist(), *POINTS.ravel().tolist()]
        rows.append("\t".join([f"{index}.png", "0.99", *map(str, numbers)]))
    (folder / "landmarks.tsv").write_text("\n".join(rows) + "\n")
    return folder


def drawn_scene_maker(folder: Path) -> SceneMaker:
    """Scenes of 96 px with the drawn faces, which are written into a new folder, before noise."""
    backgrounds = [np.random.default_rng(3).integers(0, 255, (80, 90, 3), dtype=np.uint8)]
    return SceneMaker(load_face_pictures(write_drawn_faces(folder)), backgrounds, 96)


def write_coarse_faces(folder: Path, count: int, *, with_table: bool = True) -> None:
    """Coarse noise of 200 px with landmarks of the tight template, eyes 72 px apart."""
    rng = np.random.default_rng(8)
    names = ("leye", "reye", "nose", "lmouth", "rmouth")
    lines = ["file\t" + "\t".join(f"{name}_{axis}" for name in names for axis in "xy")]
    for number in range(count):
        coarse = rng.integers(0, 256, (10, 10, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(coarse, (200, 200), interpolation=cv2.INTER_NEAREST))
        lines.append(f"{number}.png\t" + "\t".join(f"{value:.1f}" for value in template_px("tight", 200).ravel()))
    if with_table:
        (folder / "landmarks.tsv").write_text("\n".join(lines))
