"""Pictures for training a face detector: composites whose faces are known, labelled once more by a teacher.

A scene is a background with faces pasted at 12 to 480 px: single heads, rows of people one before the other, whole
portraits, or nothing but decoys. The teacher looks at the clean scene. What the student must say of each prior is the
teacher's probability, raised to 1 where a face was placed that the teacher missed; boxes and landmarks come from the
teacher where it saw the face, else from the placement. The student sees the scene degraded, under the same labels.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidrestore.errors import InputError, SourceError
from vidrestore.models.face_detector import NMS_IOU, decode_boxes, decode_landmarks, network_input, priors_px
from vidrestore.training.packed import LANDMARKS_TABLE, read_columns, read_landmarks, read_picture

logger = logging.getLogger("vidrestore")

Image = NDArray[np.uint8]
Points = NDArray[np.float32]

FACE_SIDE_PX = (12.0, 480.0)
"""Smallest and largest face (root of its box's area) in a scene."""
BOX_COLUMNS = ("x1", "y1", "x2", "y2")
"""Of `landmarks.tsv`: the face's box, beside its landmarks."""
MIRROR = [1, 0, 2, 4, 3]
"""Where each landmark comes from when a face is mirrored: left and right are the viewer's."""
PORTRAIT_MAX_SHARE = 0.6
"""A picture whose face takes less of its width shows shoulders too, and can stand for a person in a group."""
LONG_SIDE_PX = 800
"""Larger pictures are halved on loading: no scene shows a face that large, and decoding would be the bottleneck."""
SCENES = {"heads": 0.4, "group": 0.3, "portraits": 0.2, "decoys": 0.1}
"""Kinds of scene and their shares."""
DECOY_SHARE = 0.35
"""Of the other scenes, so many hold decoys too."""
TURNED_SHARE = 0.35
"""Share of pasted faces that are turned to a side: the portraits all look into the camera, people in films do not."""
PORTRAIT_MAX_YAW_DEG = 65.0
"""Further round, a turned photograph no longer looks like a head. The teacher finds these with scores above 0.9."""
TIGHT_MAX_YAW_DEG = 30.0
"""Likewise for pictures that are hardly wider than the face: it turns out of them."""
MIN_VISIBLE = 0.65
"""A face of which others hide more than the rest is no longer asked for."""
MATCH_IOU = 0.35
"""Priors that overlap a face this much learn its box and landmarks (RetinaFace's training value)."""
BEST_PRIOR_IOU = 0.2
"""The best prior of a face learns it too if it overlaps at least this much (likewise)."""
PLACED_MIN_SIDE_PX = 16.0
"""A smaller face counts only if the teacher sees it; otherwise the student takes ears and badges for faces."""
TEACHER_SCORE = 0.5
"""From here on the teacher's detections are faces."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A composite and the faces placed in it that are visible enough."""

    image: Image
    """(S, S, 3) RGB."""
    boxes: Points
    """(N, 4) px."""
    landmarks: Points
    """(N, 5, 2) px."""


class SceneMaker:
    """Makes scenes of side `size_px` from faces and backgrounds."""

    def __init__(self, faces: Sequence[FacePicture], backgrounds: Sequence[Image], size_px: int) -> None:
        self.faces = faces
        self.portraits = [face for face in faces if face.is_portrait]
        self.backgrounds = backgrounds
        self.size_px = size_px

    def make(self, rng: np.random.Generator) -> Scene:
        kind = rng.choice(list(SCENES), p=list(SCENES.values()))
        canvas = Canvas(self.background(rng))
        if kind == "heads":
            self._add_heads(canvas, rng)
        elif kind == "group":
            self._add_group(canvas, rng)
        elif kind == "portraits":
            self._add_portraits(canvas, rng)
        if kind == "decoys" or rng.random() < DECOY_SHARE:
            self._add_decoys(canvas, rng)
        if rng.random() < 0.15:
            canvas.image[:] = cv2.cvtColor(canvas.image, cv2.COLOR_RGB2GRAY)[:, :, None]
        return canvas.scene()

    def background(self, rng: np.random.Generator) -> Image:
        """(S, S, 3): a piece of a picture, a shuffled or blurred face picture, or gradients, noise and lines."""
        size_px = self.size_px
        kind = rng.random()
        if kind < 0.5:
            source = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
            background = _random_piece(source, size_px, rng)
        elif kind < 0.7:
            background = _random_piece(_shuffle_patches(self._any_face(rng).decode(), rng), size_px, rng)
        elif kind < 0.8:
            blurred = cv2.GaussianBlur(self._any_face(rng).decode(), (0, 0), rng.uniform(12, 30))
            background = _random_piece(np.asarray(blurred, np.uint8), size_px, rng)
        else:
            background = _procedural(size_px, rng)
        return _jitter_tone(background, rng)

    def _any_face(self, rng: np.random.Generator) -> FacePicture:
        # Portraits are few but the only ones with hair, neck and clothes: they come up as often as all the others.
        pool = self.portraits if rng.random() < 0.4 else self.faces
        return pool[int(rng.integers(len(pool)))]

    def _add_heads(self, canvas: "Canvas", rng: np.random.Generator) -> None:
        count = 1 + min(int(rng.poisson(5)), 15)
        largest = min(FACE_SIDE_PX[1], self.size_px * 1.1)
        sides = np.exp(rng.uniform(np.log(FACE_SIDE_PX[0]), np.log(largest), size=count))
        for side_px in np.sort(sides)[::-1]:
            for _ in range(8):
                center = rng.uniform(-0.1, 1.1, size=2) * self.size_px
                if canvas.is_free(center, side_px):
                    mask = "rect" if rng.random() < 0.3 else "head"
                    canvas.paste(self._any_face(rng), center, side_px, _angle_deg(rng), mask, rng)
                    break

    def _add_group(self, canvas: "Canvas", rng: np.random.Generator) -> None:
        side_px = np.exp(rng.uniform(np.log(16), np.log(90)))
        y = rng.uniform(0.5, 3) * side_px
        for _ in range(int(rng.integers(1, 5))):
            x = rng.uniform(-0.5, 1.5) * side_px
            while x < self.size_px + side_px:
                center = np.array([x, y + rng.normal(0, 0.25) * side_px])
                portrait = self.portraits[int(rng.integers(len(self.portraits)))]
                canvas.paste(portrait, center, side_px * rng.uniform(0.85, 1.15), rng.normal(0, 6), "bust", rng)
                x += rng.uniform(1.3, 2.6) * side_px
            y += rng.uniform(1.3, 2.8) * side_px
            side_px *= rng.uniform(1.0, 1.15)  # nearer to the camera

    def _add_portraits(self, canvas: "Canvas", rng: np.random.Generator) -> None:
        for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
            portrait = self.portraits[int(rng.integers(len(self.portraits)))]
            side_px = np.exp(rng.uniform(np.log(20), np.log(FACE_SIDE_PX[1])))
            margin_px = min(side_px / 2, self.size_px / 3)
            center = rng.uniform(margin_px, self.size_px - margin_px, size=2)
            canvas.paste(portrait, center, side_px, rng.normal(0, 5), "rect", rng)

    def _add_decoys(self, canvas: "Canvas", rng: np.random.Generator) -> None:
        for _ in range(int(rng.integers(1, 6))):
            face = self._any_face(rng)
            picture = face.decode()
            is_part = rng.random() < 0.5
            decoy = _face_part(picture, face.box_xyxy_px, rng) if is_part else _shuffle_patches(picture, rng)
            side_px = np.exp(rng.uniform(np.log(FACE_SIDE_PX[0]), np.log(120)))
            center = rng.uniform(0, self.size_px, size=2)
            if canvas.is_free(center, side_px):
                canvas.paste(face, center, side_px, rng.uniform(-180, 180), "head", rng, decoy=decoy)


class Canvas:
    """A scene in the making: the picture, who owns each pixel, and the faces pasted so far."""

    def __init__(self, background: Image) -> None:
        self.image = background.copy()
        self.owner = np.full(background.shape[:2], -1, np.int16)
        self.boxes: list[Points] = []
        self.landmarks: list[Points] = []
        self.num_own_pixels: list[int] = []
        self.is_decoy: list[bool] = []

    def is_free(self, center: NDArray[np.float64], side_px: float) -> bool:
        """Whether a face there would hide at most a corner of another one."""
        for box in self.boxes:
            overlap = np.minimum(box[2:], center + side_px / 2) - np.maximum(box[:2], center - side_px / 2)
            if overlap.min() > 0 and overlap.prod() > 0.1 * min(side_px**2, face_side_px(box) ** 2):
                return False
        return True

    def paste(
        self,
        face: FacePicture,
        center: NDArray[np.float64],
        side_px: float,
        angle_deg: float,
        mask_name: str,
        rng: np.random.Generator,
        *,
        decoy: Image | None = None,
    ) -> None:
        """Put the face's box centre at `center`, its box scaled to `side_px`, mirrored half of the time."""
        source = face.decode() if decoy is None else decoy
        box, landmarks = face.box_xyxy_px, face.landmarks_px
        if rng.random() < 0.5:
            last_px = source.shape[1] - 1
            source = np.ascontiguousarray(source[:, ::-1])
            box = np.array([last_px - box[2], box[1], last_px - box[0], box[3]], np.float32)
            landmarks = (landmarks * [-1, 1] + [last_px, 0])[MIRROR].astype(np.float32)
        scale = side_px / face_side_px(box)
        if scale < 0.7:  # area-average first: warpAffine alone would alias
            height_px, width_px = (max(2, round(length_px * scale)) for length_px in source.shape[:2])
            shrink = np.array([width_px / source.shape[1], height_px / source.shape[0]])
            source = cv2.resize(source, (width_px, height_px), interpolation=cv2.INTER_AREA)
            landmarks = ((landmarks + 0.5) * shrink - 0.5).astype(np.float32)
            box = ((box.reshape(2, 2) + 0.5) * shrink - 0.5).reshape(4).astype(np.float32)
            scale = side_px / face_side_px(box)
        if decoy is None and rng.random() < TURNED_SHARE:
            yaw_deg = rng.uniform(-1, 1) * (PORTRAIT_MAX_YAW_DEG if face.is_portrait else TIGHT_MAX_YAW_DEG)
            source, box, landmarks = turn_head(source, box, landmarks, yaw_deg)
            scale = side_px / face_side_px(box)
        source = _jitter_tone(source, rng)
        mask = _mask(mask_name, source.shape[:2], box)

        box_center = (box[:2] + box[2:]) / 2
        canvas_from_source = cv2.getRotationMatrix2D(box_center.tolist(), angle_deg, scale)
        canvas_from_source[:, 2] += center - box_center
        height_px, width_px = source.shape[:2]
        corners = np.array([[0, 0], [width_px, 0], [0, height_px], [width_px, height_px]], np.float64)
        corners = corners @ canvas_from_source[:, :2].T + canvas_from_source[:, 2]
        size_px = self.image.shape[0]
        x1, y1 = np.clip(np.floor(corners.min(axis=0)), 0, size_px).astype(int)
        x2, y2 = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, size_px).astype(int)
        if x2 - x1 < 2 or y2 - y1 < 2:
            return
        to_region = canvas_from_source - np.array([[0, 0, x1], [0, 0, y1]])
        region_size = (int(x2 - x1), int(y2 - y1))
        warped = cv2.warpAffine(source, to_region, region_size, borderMode=cv2.BORDER_REFLECT_101)
        alpha = cv2.warpAffine(mask, to_region, region_size)[:, :, None]  # zero outside the source
        region = self.image[y1:y2, x1:x2]
        region[:] = np.rint(region + (warped.astype(np.float32) - region) * alpha).astype(np.uint8)

        own = np.zeros(self.owner.shape, bool)
        own[y1:y2, x1:x2] = alpha[:, :, 0] > 0.5
        self.owner[own] = len(self.boxes)
        moved = landmarks @ canvas_from_source[:, :2].T + canvas_from_source[:, 2]
        half = (box[2:] - box[:2]) * scale / 2
        placed = np.concatenate((center - half, center + half)).astype(np.float32)
        self.boxes.append(placed)
        self.landmarks.append(moved.astype(np.float32))
        self.num_own_pixels.append(int(own[_region(placed, size_px)].sum()))
        self.is_decoy.append(decoy is not None)

    def scene(self) -> Scene:
        size_px = self.image.shape[0]
        kept = []
        for index, box in enumerate(self.boxes):
            region = _region(box, size_px)
            visible = int((self.owner[region] == index).sum())
            inside = self.owner[region].size / max(float((box[2] - box[0]) * (box[3] - box[1])), 1.0)
            if (
                not self.is_decoy[index]
                and inside >= MIN_VISIBLE
                and visible > MIN_VISIBLE * self.num_own_pixels[index]
            ):
                kept.append(index)
        boxes = np.array([self.boxes[index] for index in kept], np.float32).reshape(-1, 4)
        landmarks = np.array([self.landmarks[index] for index in kept], np.float32).reshape(-1, 5, 2)
        return Scene(self.image, boxes, landmarks)


def turn_head(image: Image, box: Points, landmarks: Points, yaw_deg: float) -> tuple[Image, Points, Points]:
    """A frontal face as if its owner looked to a side (positive: towards the viewer's right), with box and landmarks.

    The head is taken for half an ellipsoid with a nose before a flat background, turned about its vertical axis and
    seen from far away; what turns out of sight is dropped, what comes into sight is stretched.
    """
    sine, cosine = np.sin(np.deg2rad(yaw_deg)), np.cos(np.deg2rad(yaw_deg))
    face_w, face_h = (box[2:] - box[:2]).tolist()
    center_x, center_y = ((box[:2] + box[2:]) / 2).tolist()
    nose_x, nose_y = landmarks[2].tolist()

    def turned_x(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
        outside = ((x - center_x) / (0.75 * face_w)) ** 2 + ((y - center_y) / (0.95 * face_h)) ** 2
        depth = 0.75 * face_w * np.sqrt(np.clip(1 - outside, 0, None))
        off_nose = ((x - nose_x) / (0.1 * face_w)) ** 2 + ((y - nose_y) / (0.14 * face_h)) ** 2
        depth = depth + 0.15 * face_w * np.exp(-off_nose / 2)
        return np.asarray(center_x + (x - center_x) * cosine + depth * sine, np.float32)

    height_px, width_px = image.shape[:2]
    columns = np.arange(width_px, dtype=np.float32)
    y, x = np.meshgrid(np.arange(height_px, dtype=np.float32), columns, indexing="ij")
    target_x = turned_x(x, y)
    if yaw_deg >= 0:  # of points that fall onto one column, the one nearer to the viewer stays
        target_x = np.maximum.accumulate(target_x, axis=1)
    else:
        target_x = np.minimum.accumulate(target_x[:, ::-1], axis=1)[:, ::-1]
    target_x = target_x + columns * np.float32(1e-3)  # strictly increasing
    source_x = np.stack([np.interp(columns, row, columns) for row in target_x]).astype(np.float32)
    turned = cv2.remap(image, source_x, y, cv2.INTER_LINEAR)

    moved = landmarks.copy()
    moved[:, 0] = turned_x(landmarks[:, 0], landmarks[:, 1])
    edges_x = turned_x(box[[0, 2]], np.full(2, center_y, np.float32))
    left, right = min(edges_x.min(), moved[:, 0].min()), max(edges_x.max(), moved[:, 0].max())
    return np.asarray(turned, np.uint8), np.array([left, box[1], right, box[3]], np.float32), moved


def _region(box: Points, size_px: int) -> tuple[slice, slice]:
    x1, y1, x2, y2 = np.clip(np.rint(box), 0, size_px).astype(int).tolist()
    return slice(y1, y2), slice(x1, x2)


def _angle_deg(rng: np.random.Generator) -> float:
    """Most heads are nearly upright; some lean by up to 30 degrees."""
    return float(rng.uniform(-30, 30) if rng.random() < 0.3 else rng.normal(0, 8))


def _mask(name: str, shape: tuple[int, ...], box: Points) -> NDArray[np.float32]:
    """(H, W) opacity of a pasted picture: its whole rectangle, the head, or head and shoulders."""
    height_px, width_px = shape
    face_w, face_h = (box[2:] - box[:2]).tolist()
    center_x, center_y = ((box[:2] + box[2:]) / 2).tolist()
    if name == "rect":
        return np.ones((height_px, width_px), np.float32)
    mask = np.zeros((height_px, width_px), np.uint8)
    head = (round(center_x), round(center_y - 0.08 * face_h)), (round(0.68 * face_w), round(0.75 * face_h))
    cv2.ellipse(mask, *head, 0, 0, 360, 255, -1)
    if name == "bust":
        shoulders = (round(center_x), round(center_y + 2.3 * face_h)), (round(1.5 * face_w), round(1.75 * face_h))
        cv2.ellipse(mask, *shoulders, 0, 0, 360, 255, -1)
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.04 * face_w, 0.4))
    return soft.astype(np.float32) / np.float32(255)


def _random_piece(source: Image, size_px: int, rng: np.random.Generator) -> Image:
    """(S, S, 3): a random square of the source, enlarged or shrunk, mirrored, its channels sometimes swapped."""
    shorter_px = min(source.shape[:2])
    piece_px = int(rng.integers(max(16, shorter_px // 4), shorter_px + 1))
    y = int(rng.integers(source.shape[0] - piece_px + 1))
    x = int(rng.integers(source.shape[1] - piece_px + 1))
    piece = source[y : y + piece_px, x : x + piece_px]
    kernel = cv2.INTER_AREA if piece_px > size_px else cv2.INTER_CUBIC
    piece = cv2.resize(piece, (size_px, size_px), interpolation=kernel)
    piece = piece[:, :: int(rng.choice([-1, 1]))]
    if rng.random() < 0.2:
        piece = piece[:, :, rng.permutation(3)]
    return np.ascontiguousarray(piece)


def _shuffle_patches(image: Image, rng: np.random.Generator) -> Image:
    """The picture cut into a grid of 3 to 6 cells a side, rearranged: skin, eyes and hair, but no face."""
    cells = int(rng.integers(3, 7))
    height_px, width_px = image.shape[0] // cells, image.shape[1] // cells
    grid = image[: height_px * cells, : width_px * cells].reshape(cells, height_px, cells, width_px, 3)
    patches = grid.transpose(0, 2, 1, 3, 4).reshape(-1, height_px, width_px, 3)[rng.permutation(cells**2)]
    grid = patches.reshape(cells, cells, height_px, width_px, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grid.reshape(height_px * cells, width_px * cells, 3))


def _face_part(image: Image, box: Points, rng: np.random.Generator) -> Image:
    """An ear, a chin, hair or a neck: a square of a third to two thirds of the face from around its edge, enlarged."""
    side_px = face_side_px(box)
    part_px = max(4, min(round(side_px * rng.uniform(0.3, 0.65)), *image.shape[:2]))
    angle = rng.uniform(0, 2 * np.pi)
    away_px = side_px * rng.uniform(0.45, 0.75)
    center = (box[:2] + box[2:]) / 2 + away_px * np.array([np.cos(angle), np.sin(angle)])
    x, y = (int(np.clip(c - part_px / 2, 0, n - part_px)) for c, n in zip(center, image.shape[1::-1], strict=True))
    part = cv2.resize(image[y : y + part_px, x : x + part_px], image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(part, np.uint8)


def _procedural(size_px: int, rng: np.random.Generator) -> Image:
    """(S, S, 3): smooth noise at random scales, sometimes with lines and discs."""
    coarse_px = int(2 ** rng.integers(1, 7))
    noise = rng.uniform(0, 255, size=(coarse_px, coarse_px, 3)).astype(np.float32)
    image = cv2.resize(noise, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    image = np.clip(image * rng.uniform(0.2, 1) + rng.uniform(-40, 80), 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 12))):
        color = rng.integers(0, 256, size=3).tolist()
        ends = rng.integers(-20, size_px + 20, size=4).tolist()
        if rng.random() < 0.6:
            cv2.line(image, ends[:2], ends[2:], color, int(rng.integers(1, 12)), cv2.LINE_AA)
        else:
            axes = rng.integers(3, 60, size=2).tolist()
            cv2.ellipse(image, ends[:2], axes, rng.uniform(0, 180), 0, 360, color, -1, cv2.LINE_AA)
    return np.asarray(image, np.uint8)


def _jitter_tone(image: Image, rng: np.random.Generator) -> Image:
    """Another contrast and brightness, as if lit and exposed differently."""
    gain, offset = rng.uniform(0.6, 1.25), rng.uniform(-30, 30)
    levels = image * np.float32(gain) + np.float32(offset)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A labelled scene."""

    image: Image
    """(S, S, 3) RGB, clean."""
    probability: Tensor
    """(P,) float32: what the student should say of each prior."""
    face_index: Tensor
    """(P,) int64: which face a prior learns, -1 for none."""
    boxes: Tensor
    """(N, 4) float32 px."""
    landmarks: Tensor
    """(N, 5, 2) float32 px."""
    hints: tuple[Tensor, ...]
    """The teacher's features, (C_k, H_k, W_k) float16 for each level of `features_and_outputs`."""


def features_and_outputs(network: nn.Module, x: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """RetinaFace's forward pass with its features: three of the body, three of the context modules.

    Returns them with the boxes (N, P, 4), class logits (N, P, 2) and landmarks (N, P, 10), all relative to the priors.
    """
    part = network.get_submodule
    body = list(part("body")(x).values())
    pyramid = part("fpn")(body)
    context = [part(f"ssh{level + 1}")(feature) for level, feature in enumerate(pyramid)]
    outputs = []
    for head in ("BboxHead", "ClassHead", "LandmarkHead"):
        outputs.append(torch.cat([part(f"{head}.{level}")(feature) for level, feature in enumerate(context)], dim=1))
    return [*body, *context], outputs[0], outputs[1], outputs[2]


@torch.inference_mode()
def label_scenes(teacher: nn.Module, scenes: Sequence[Scene]) -> list[Sample]:
    """Run the teacher (on the CPU) on clean scenes of one size and unite what it says with what was placed."""
    size_px = scenes[0].image.shape[0]
    images = network_input(np.stack([scene.image for scene in scenes]), torch.device("cpu"))
    features, box_out, logits, landmark_out = features_and_outputs(teacher, images)
    probability = torch.softmax(logits, dim=-1)[..., 1]
    priors = priors_px(size_px, size_px)
    samples = []
    for index, scene in enumerate(scenes):
        hints = tuple(feature[index].half() for feature in features)
        decoded = decode_boxes(box_out[index], priors), decode_landmarks(landmark_out[index], priors)
        samples.append(label_scene(scene, probability[index], decoded[0], decoded[1], hints))
    return samples


def label_scene(
    scene: Scene, probability: Tensor, boxes: Tensor, landmarks: Tensor, hints: tuple[Tensor, ...] = ()
) -> Sample:
    """Unite a scene's faces with a teacher's probabilities (P,), boxes (P, 4) and landmarks (P, 5, 2) in px."""
    from torchvision.ops import box_iou, nms

    size_px = scene.image.shape[0]
    priors = priors_px(size_px, size_px)
    prior_boxes = torch.cat((priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2), dim=1)
    seen = torch.nonzero(probability >= TEACHER_SCORE).squeeze(1)
    seen = seen[nms(boxes[seen], probability[seen], NMS_IOU)]
    placed, placed_landmarks = torch.from_numpy(scene.boxes), torch.from_numpy(scene.landmarks)
    asked = (placed[:, 2:] - placed[:, :2]).prod(dim=1).sqrt() >= PLACED_MIN_SIDE_PX
    if len(seen):
        asked &= box_iou(placed, boxes[seen]).amax(dim=1) < MATCH_IOU
    placed, placed_landmarks = placed[asked], placed_landmarks[asked]
    all_boxes = torch.cat((boxes[seen], placed))
    all_landmarks = torch.cat((landmarks[seen], placed_landmarks))

    face_index = torch.full((len(priors),), -1)
    probability = probability.clone()
    if len(all_boxes):
        iou = box_iou(prior_boxes, all_boxes)  # (P, N)
        best_iou, best_face = iou.max(dim=1)
        face_index = torch.where(best_iou >= MATCH_IOU, best_face, face_index)
        prior_iou, prior_of_face = iou.max(dim=0)
        for face in torch.nonzero(prior_iou >= BEST_PRIOR_IOU).squeeze(1).tolist():
            face_index[prior_of_face[face]] = face
        probability[face_index >= len(seen)] = 1.0  # placed, but missed by the teacher
    return Sample(scene.image, probability, face_index, all_boxes, all_landmarks, hints)
