"""Pictures for training a face detector: composites whose faces are known.

A scene is a background with faces pasted at 12 to 480 px: single heads, rows of people one before the other, whole
portraits, or nothing but decoys.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from vidrestore.training.degrade_steps import Image
from vidrestore.training.detector_canvas import Canvas, Scene, jitter_tone
from vidrestore.training.detector_pictures import FacePicture, Points, face_side_px

FACE_SIDE_PX = (12.0, 480.0)
"""Smallest and largest face (root of its box's area) in a scene."""
SCENES = {"heads": 0.4, "group": 0.3, "portraits": 0.2, "decoys": 0.1}
"""Kinds of scene and their shares."""
DECOY_SHARE = 0.35
"""Of the other scenes, so many hold decoys too."""


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
        return jitter_tone(background, rng)

    def _any_face(self, rng: np.random.Generator) -> FacePicture:
        # Portraits are few but the only ones with hair, neck and clothes: they come up as often as all the others.
        pool = self.portraits if rng.random() < 0.4 else self.faces
        return pool[int(rng.integers(len(pool)))]

    def _add_heads(self, canvas: Canvas, rng: np.random.Generator) -> None:
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

    def _add_group(self, canvas: Canvas, rng: np.random.Generator) -> None:
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

    def _add_portraits(self, canvas: Canvas, rng: np.random.Generator) -> None:
        for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
            portrait = self.portraits[int(rng.integers(len(self.portraits)))]
            side_px = np.exp(rng.uniform(np.log(20), np.log(FACE_SIDE_PX[1])))
            margin_px = min(side_px / 2, self.size_px / 3)
            center = rng.uniform(margin_px, self.size_px - margin_px, size=2)
            canvas.paste(portrait, center, side_px, rng.normal(0, 5), "rect", rng)

    def _add_decoys(self, canvas: Canvas, rng: np.random.Generator) -> None:
        for _ in range(int(rng.integers(1, 6))):
            face = self._any_face(rng)
            picture = face.decode()
            is_part = rng.random() < 0.5
            decoy = _face_part(picture, face.box_xyxy_px, rng) if is_part else _shuffle_patches(picture, rng)
            side_px = np.exp(rng.uniform(np.log(FACE_SIDE_PX[0]), np.log(120)))
            center = rng.uniform(0, self.size_px, size=2)
            if canvas.is_free(center, side_px):
                canvas.paste(face, center, side_px, rng.uniform(-180, 180), "head", rng, decoy=decoy)


def _angle_deg(rng: np.random.Generator) -> float:
    """Most heads are nearly upright; some lean by up to 30 degrees."""
    return float(rng.uniform(-30, 30) if rng.random() < 0.3 else rng.normal(0, 8))


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
