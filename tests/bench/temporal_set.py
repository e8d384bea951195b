"""Scenes with known truth for `temporal.py`: portraits that move, talk, blink, turn, meet, are hidden and cut.

A face is drawn from a portrait in twice the size and then reduced, so that the clean truth hardly flickers by itself.
Places are told in face units: the origin between the eyes, u from the left eye to the right one, v down, and 1 the
distance between the eyes. Everything is the same in every run: times are computed, and noise has a fixed seed.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from tracking import EYES_PX, HEIGHT_PX, PATHS, RATE_HZ, WIDTH_PX, noisy, portrait_and_landmarks

from vidrestore.face import eye_distance_px
from vidrestore.frame import Frame
from vidrestore.images import frame_from_rgb, read_image, rgb_from_frame
from vidrestore.models.spec import FaceDetector
from vidrestore.stages.crop_geometry import invert, similarity
from vidrestore.stages.detect import detect_faces

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB."""
Points = NDArray[np.float64]

DRAWN_ENLARGED = 2
"""Pictures are drawn so many times larger than they are shown."""
SEED = 3
TICKS_PER_S = 1000
"""Of a scene with a variable frame rate."""
STEPS_MS = (20, 33, 40, 50, 83)
"""Between its frames."""
CRF = 35
"""Of the H.264 that the second way of degrading goes through: what a poor video call looks like."""
LUMA_NOISE = 10.0
"""Before H.264, in levels; as in the first way."""

JAW_END, CHIN = 1.1, 0.4
"""In face units below the mouth: from here on nothing moves; down to here all moves with the lower lip."""
DARK = (52.0, 22.0, 20.0)
"""RGB: between parted lips, and lashes."""
MOUTH_OPEN = 0.16
"""The widest, in face units."""
EYE_HALF_WIDTH, LID_ABOVE, LID_BELOW, LASHES = 0.21, 0.07, 0.07, 0.02
"""In face units: half an eye's width, its lids above and below the pupil, and half the width of a lid's dark edge."""
HEAD_RADIUS = 1.25
"""A head that turns is a cylinder of this radius, in face units."""
HEAD_TOP, HEAD_BOTTOM, NECK = -1.2, 1.5, 0.6
"""Between these heights all of the head turns; over the length of the neck beyond them ever less."""
CUTOUT_EDGE = 0.08
"""In face units; how soft the edge of a person is in front of a background."""


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """A person."""

    picture: Picture
    landmarks_px: Points
    """(5, 2), what the detector finds in it."""

    @property
    def face_from_picture(self) -> Points:
        """(2, 3) px -> face units."""
        return similarity(self.landmarks_px[:2], np.array([[-0.5, 0.0], [0.5, 0.0]]))


@dataclass(frozen=True, slots=True)
class Pose:
    """A face at one moment."""

    x_px: float = 0.0
    """From the middle of the picture; this and `y_px` are for eyes 45 px apart and grow with them."""
    y_px: float = 0.0
    zoom: float = 1.0
    roll_deg: float = 0.0
    turn_deg: float = 0.0
    """To the viewer's right."""
    mouth: float = 0.0
    """How far the lips are parted, in face units."""
    lids: float = 0.0
    """0 open, 1 closed."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Something round in front of a face."""

    x_px: float
    y_px: float
    radius_px: float


@dataclass(frozen=True, slots=True)
class Shot:
    """What is before the camera; times are seconds since it began."""

    people: tuple[tuple[Portrait, Callable[[float], Pose]], ...]
    """Back to front. One person alone stands before what the portrait shows, which moves along; several before a wall.
    """
    blob: Callable[[float], Blob] | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """How a scene is made."""

    shots: tuple[Shot, ...]
    degraded: str = "jpeg"
    """A name in `DEGRADE`."""
    has_variable_rate: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """T frames with P people, and the truth."""

    name: str
    frames: list[Frame]
    """Degraded."""
    clean: list[Picture]
    """The same before it was degraded."""
    places_px: Points
    """(T, P, 5, 2) where the landmarks truly are, also of what is hidden; NaN in the frames of other shots."""
    is_hidden: NDArray[np.bool_]
    """(T, P, 5) behind somebody, behind the blob, or outside the picture."""
    cuts: tuple[int, ...]
    """Numbers of the frames with which shots begin, without the first."""
    mouth: Points
    """(T, P) `Pose.mouth`."""
    lids: Points
    """(T, P) `Pose.lids`."""

    @property
    def landmarks_px(self) -> Points:
        """(T, P, 5, 2), NaN where hidden or absent."""
        return np.where(self.is_hidden[..., None], np.nan, self.places_px)

    @property
    def num_people(self) -> int:
        return self.places_px.shape[1]


def read_portraits(stills: Sequence[Path], detector: FaceDetector) -> list[Portrait]:
    """Of every file its best face; without files matplotlib's and scikit-image's sample people."""
    if stills:
        found = [picture_and_landmarks(rgb_from_frame(read_image(path).frame), detector) for path in stills]
    else:
        from skimage.data import astronaut  # late: an extra

        found = [portrait_and_landmarks(detector), picture_and_landmarks(astronaut(), detector)]
    return [Portrait(picture, landmarks_px) for picture, landmarks_px in found]


def picture_and_landmarks(picture: Picture, detector: FaceDetector) -> tuple[Picture, Points]:
    (found,) = detect_faces([frame_from_rgb(picture)], detector, batch_frames=1)
    return picture, found.faces[0].landmarks_px.astype(np.float64)


def reduced(portrait: Portrait, eyes_px: float) -> Portrait:
    """The portrait with its eyes at most so far apart, every pixel counted."""
    scale = eyes_px / eye_distance_px(portrait.landmarks_px)
    if scale >= 1:
        return portrait
    height_px, width_px = portrait.picture.shape[:2]
    size = (round(width_px * scale), round(height_px * scale))
    picture = np.asarray(cv2.resize(portrait.picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    ratio = np.array([size[0] / width_px, size[1] / height_px])
    return Portrait(picture, (portrait.landmarks_px + 0.5) * ratio - 0.5)


# --- Expressions: out of each place in face units the place in the portrait that is seen there


def unturned(points: Points, turn_deg: float) -> Points:
    """(..., 2) in a picture of a head turned to the right -> where they are in one of a head turned to nowhere.

    A cylinder seen from afar. Towards its edge it turns less, so that the background stays where it is.
    """
    u, v = points[..., 0], points[..., 1]
    across = np.clip(u / HEAD_RADIUS, -1, 1)
    beyond = np.maximum(HEAD_TOP - v, v - HEAD_BOTTOM) / NECK
    share = (1 - across**2) * smoothly(1 - beyond)
    before = HEAD_RADIUS * np.sin(np.arcsin(across) - np.deg2rad(turn_deg) * share)
    return np.stack([np.where(np.abs(u) < HEAD_RADIUS, before, u), v], axis=-1)


def turned(points: Points, turn_deg: float) -> Points:
    """The reverse of `unturned`."""
    guess = points.copy()
    for _ in range(30):
        guess += 0.7 * (points - unturned(guess, turn_deg))
    return guess


def with_closed_lids(points: Points, eyes: Points, lids: float) -> tuple[Points, Points]:
    """A lid of the skin below each eye (2, 2) comes down over it; and (...) how dark its edge is, 0..1."""
    u, v = points[..., 0], points[..., 1]
    seen, darkness = v.copy(), np.zeros(v.shape)
    for eye_u, eye_v in eyes:
        almond = 1 - ((u - eye_u) / EYE_HALF_WIDTH) ** 2
        upper, lower = eye_v - LID_ABOVE * almond, eye_v + LID_BELOW * almond
        edge = upper + lids * (lower - upper)
        is_lid = (almond > 0) & (v > upper) & (v < edge)
        # Half as far below the eye as the edge is: glasses and cheeks are near.
        seen = np.where(is_lid, lower + LASHES + (edge - v) / 2, seen)
        darkness += np.where(almond > 0, min(3 * lids, 1) * smoothly(1 - np.abs(v - edge) / LASHES), 0)
    return np.stack([u, seen], axis=-1), darkness


def with_open_mouth(points: Points, corners: Points, opening: float) -> tuple[Points, Points]:
    """What is below the line between the corners (2, 2) goes down; and (...) how far it shows what is between the lips.

    0 outside of the mouth, 1 in its depth.
    """
    u, v = points[..., 0], points[..., 1]
    (left_u, left_v), (right_u, right_v) = corners
    line = left_v + (u - left_u) * (right_v - left_v) / (right_u - left_u)
    depth = v - line
    half_width = (right_u - left_u) / 2 * (1 + 0.8 * np.maximum(depth, 0))
    across = np.cos(np.pi / 2 * np.clip((u - (left_u + right_u) / 2) / half_width, -1, 1)) ** 2
    moved = opening * across * smoothly((JAW_END - depth) / (JAW_END - CHIN))
    is_inside = (depth > 0) & (depth < moved)
    darkness = np.where(is_inside, smoothly(np.minimum(depth, moved - depth) / 0.02), 0.0)
    return np.stack([u, np.where(depth > 0, np.maximum(v - moved, line), v)], axis=-1), darkness


def smoothly(share: Points) -> Points:
    """0 below 0, 1 above 1, and a smooth slope between."""
    clipped = np.clip(share, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)


def expressed(portrait: Portrait, pose: Pose) -> Picture:
    """The portrait's picture with its head turned, its lips parted and its lids down."""
    if pose.turn_deg == pose.mouth == pose.lids == 0:
        return portrait.picture
    face_from_picture = portrait.face_from_picture
    picture_from_face = invert(face_from_picture)
    # Nothing beyond this square of face units moves.
    corners = apply(picture_from_face, np.array([[-1.4, -1.9], [1.4, -1.9], [1.4, 2.2], [-1.4, 2.2]]))
    height_px, width_px = portrait.picture.shape[:2]
    x0, y0 = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(corners.max(axis=0)) + 1, (width_px, height_px)).astype(int)
    pixels = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), axis=-1).astype(np.float64)
    points = unturned(apply(face_from_picture, pixels), pose.turn_deg)
    face_px = apply(face_from_picture, portrait.landmarks_px)
    points, between_lips = with_open_mouth(points, face_px[3:], pose.mouth)
    points, lashes = with_closed_lids(points, face_px[:2], pose.lids)
    source_px = apply(picture_from_face, points).astype(np.float32)
    # As it is where nothing moves: cubic interpolation leaves whole pixels alone.
    seen = cv2.remap(
        portrait.picture, source_px[..., 0], source_px[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    changed = portrait.picture.copy()
    dark = np.maximum(between_lips, lashes)[..., None]
    changed[y0:y1, x0:x1] = np.rint((1 - dark) * seen + dark * np.array(DARK)).astype(np.uint8)
    return changed


# --- Drawing


def apply(b_from_a: Points, points: Points) -> Points:
    """(..., 2) through a (2, 3) matrix."""
    return np.asarray(points @ b_from_a[:, :2].T + b_from_a[:, 2])


def frame_from_picture(portrait: Portrait, pose: Pose, eyes_px: float) -> Points:
    """(2, 3) px of the portrait -> px of the frame."""
    scale = eyes_px / EYES_PX
    center = portrait.landmarks_px.mean(axis=0)
    zoom = pose.zoom * eyes_px / eye_distance_px(portrait.landmarks_px)
    matrix = np.asarray(cv2.getRotationMatrix2D(center.tolist(), pose.roll_deg, zoom))
    matrix[:, 2] += scale * np.array([WIDTH_PX / 2 + pose.x_px, HEIGHT_PX / 2 + pose.y_px]) - center
    return matrix


def enlarged(matrix: Points) -> Points:
    """The same mapping onto a picture drawn larger; pixel centres are at integers in both."""
    larger = DRAWN_ENLARGED * matrix
    larger[:, 2] += (DRAWN_ENLARGED - 1) / 2
    return larger


def drawn_size_px(eyes_px: float) -> tuple[int, int]:
    """(width, height)"""
    width_px, height_px = frame_size_px(eyes_px)
    return DRAWN_ENLARGED * width_px, DRAWN_ENLARGED * height_px


def frame_size_px(eyes_px: float) -> tuple[int, int]:
    """(width, height), even."""
    return 2 * round(WIDTH_PX * eyes_px / EYES_PX / 2), 2 * round(HEIGHT_PX * eyes_px / EYES_PX / 2)


def drawn(picture: NDArray[np.float32], matrix: Points, eyes_px: float) -> NDArray[np.float32]:
    """(h, w[, C]) in the place that the matrix says, larger than the frame."""
    size = drawn_size_px(eyes_px)
    border = cv2.BORDER_REPLICATE
    return cv2.warpAffine(picture, enlarged(matrix), size, flags=cv2.INTER_CUBIC, borderMode=border)


def cutout(portrait: Portrait) -> NDArray[np.float32]:
    """(H, W) 0..1: head and shoulders."""
    height_px, width_px = portrait.picture.shape[:2]
    pixels = np.stack(np.meshgrid(np.arange(width_px), np.arange(height_px)), axis=-1).astype(np.float64)
    u, v = np.moveaxis(apply(portrait.face_from_picture, pixels), -1, 0)
    head = 1 - np.hypot(u / 1.25, (v - 0.25) / 1.75)
    shoulders = 1 - np.hypot(u / 2.2, (v - 3.3) / 1.6)
    return smoothly(np.maximum(head, shoulders) / CUTOUT_EDGE).astype(np.float32)


@lru_cache(maxsize=4)
def wall(width_px: int, height_px: int) -> NDArray[np.float32]:
    """(h, w, 3) something grey with structure, coarse and fine, that is no face."""
    rng = np.random.default_rng(SEED)
    levels = np.full((height_px, width_px), 110, np.float32)
    for sigma_px, contrast in ((60, 25), (12, 10), (3, 5)):
        layer = cv2.GaussianBlur(rng.normal(size=levels.shape).astype(np.float32), (0, 0), sigma_px)
        levels += contrast * layer / layer.std()
    return cv2.merge([np.clip(levels, 0, 255)] * 3)


def disc(blob: Blob, eyes_px: float) -> NDArray[np.float32]:
    """(h, w) 0..1: where the blob is, larger than the frame."""
    width_px, height_px = drawn_size_px(eyes_px)
    scale = DRAWN_ENLARGED * eyes_px / EYES_PX
    y, x = np.ogrid[:height_px, :width_px]
    away_px = np.hypot(x - width_px / 2 - scale * blob.x_px, y - height_px / 2 - scale * blob.y_px)
    return smoothly((scale * blob.radius_px - away_px) / DRAWN_ENLARGED).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One frame of a shot."""

    clean: Picture
    places_px: Points
    """(P, 5, 2)"""
    is_hidden: NDArray[np.bool_]
    """(P, 5)"""
    poses: list[Pose]


def draw(shot: Shot, time_s: float, eyes_px: float) -> Moment:
    """What the camera sees."""
    width_px, height_px = drawn_size_px(eyes_px)
    poses = [pose_at(time_s) for _, pose_at in shot.people]
    places = np.zeros((len(poses), 5, 2))
    is_hidden = np.zeros((len(poses), 5), np.bool_)
    alone = len(poses) == 1
    canvas = wall(width_px, height_px).copy()
    for number, ((portrait, _), pose) in enumerate(zip(shot.people, poses, strict=True)):
        matrix = frame_from_picture(portrait, pose, eyes_px)
        layer = drawn(expressed(portrait, pose).astype(np.float32), matrix, eyes_px)
        if alone:
            canvas = layer
        else:
            share = drawn(cutout(portrait), matrix, eyes_px)
            is_hidden[:number] |= at(share, places[:number]) > 0.5
            canvas += share[..., None] * (layer - canvas)
        in_face = turned(apply(portrait.face_from_picture, portrait.landmarks_px), pose.turn_deg)
        places[number] = apply(matrix, apply(invert(portrait.face_from_picture), in_face))
    if shot.blob is not None:
        share = disc(shot.blob(time_s), eyes_px)
        is_hidden |= at(share, places) > 0.5
        # Another part of the wall, as dark as hair.
        canvas += share[..., None] * (0.6 * wall(width_px, height_px)[::-1] - canvas)
    small = cv2.resize(canvas, frame_size_px(eyes_px), interpolation=cv2.INTER_AREA)
    outside = np.any((places < 0) | (places > np.array(frame_size_px(eyes_px)) - 1), axis=-1)
    return Moment(np.clip(np.rint(small), 0, 255).astype(np.uint8), places, is_hidden | outside, poses)


def at(share: NDArray[np.float32], places_px: Points) -> NDArray[np.float32]:
    """(...) what the larger picture says of the places (..., 2) in the frame."""
    x, y = np.moveaxis(np.rint(DRAWN_ENLARGED * places_px).astype(int), -1, 0)
    return share[np.clip(y, 0, share.shape[0] - 1), np.clip(x, 0, share.shape[1] - 1)]


# --- Degrading


def jpeg(pictures: list[Picture]) -> list[Picture]:
    """Soft, noisy, JPEG 25, as in `tracking.py`: what is new in each frame."""
    rng = np.random.default_rng(SEED)
    return [noisy(picture, rng) for picture in pictures]


def h264(pictures: list[Picture]) -> list[Picture]:
    """Soft, noisy, H.264 at a poor quality: errors that stay for a while and then jump."""
    rng = np.random.default_rng(SEED)
    height_px, width_px = pictures[0].shape[:2]
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        # As in a call no frame waits for later ones. With them x264 did not write the same bits each time.
        params = {"crf": str(CRF), "x264-params": "bframes=0:threads=1:lookahead-threads=1"}
        stream = container.add_stream("libx264", rate=RATE_HZ, options=params)
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, "yuv420p"
        for number, picture in enumerate(pictures):
            soft = cv2.GaussianBlur(picture, (0, 0), 1.0) + rng.normal(0, LUMA_NOISE, (height_px, width_px, 1))
            levels = np.clip(np.rint(soft), 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(levels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE_HZ)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as decoded:
        return [np.array(frame.to_ndarray(format="rgb24"), np.uint8) for frame in decoded.decode(video=0)]


DEGRADE: Mapping[str, Callable[[list[Picture]], list[Picture]]] = {"jpeg": jpeg, "h264": h264}


# --- Scenes


def along(name: str) -> Callable[[float], Pose]:
    """One of the paths of `tracking.py`."""
    return lambda t: Pose(*PATHS[name](t))


FAST_PATHS: Mapping[str, Callable[[float], Pose]] = {
    "fast pan, 100 px/s": lambda t: Pose(x_px=100 * abs((t + 0.5) % 2 - 1) - 50),
    "fast roll, 63 degrees/s": lambda t: Pose(roll_deg=20 * math.sin(math.pi * t)),
    "fast zoom": lambda t: Pose(zoom=1.1 + 0.3 * math.sin(3.8 * t)),
}
BLINKS_S = ((0.62, 0.16), (1.41, 0.2), (2.2, 0.24), (3.1, 0.16), (3.77, 0.2), (4.4, 0.24))
"""When the lids begin to move, and for how long: 3 to 5 frames."""


def talking(pose_at: Callable[[float], Pose]) -> Callable[[float], Pose]:
    """The same and the lips part 3 to 5 times a second, more and less wide, and the lids blink."""

    def pose(t: float) -> Pose:
        turns = 4 * t - math.cos(2.5 * t) / 2.5  # 3 to 5 a second
        loudness = 0.65 + 0.35 * math.sin(4.1 * t)
        mouth = MOUTH_OPEN * loudness * math.sin(math.pi * turns) ** 2
        lids = max(
            (math.sin(math.pi * (t - start) / long) ** 2 for start, long in BLINKS_S if 0 < t - start < long),
            default=0.0,
        )
        place = pose_at(t)
        return Pose(place.x_px, place.y_px, place.zoom, place.roll_deg, place.turn_deg, mouth, lids)

    return pose


def passing(t: float) -> Blob:
    """From left to right in the second second, and back in the fourth."""
    way = t - 1 if t < 2.5 else 4 - t
    return Blob(x_px=360 * (way - 0.5), y_px=12, radius_px=42)


def scripts(portraits: Sequence[Portrait], eyes_px: float = EYES_PX) -> dict[str, Script]:
    """All scenes by name. The first portrait is in all of them, the second one in those with two people."""
    first, second = (reduced(portrait, DRAWN_ENLARGED * eyes_px) for portrait in (portraits[0], portraits[-1]))

    def one(pose_at: Callable[[float], Pose], degraded: str = "jpeg") -> Script:
        return Script((Shot(((first, pose_at),)),), degraded)

    in_the_hand = along("held in the hand")
    from_the_left = (second, lambda t: Pose(x_px=-130 + 52 * t, y_px=-6))
    from_the_right = (first, lambda t: Pose(x_px=130 - 52 * t, y_px=4))
    aside = (second, lambda t: Pose(x_px=50 + 4 * t, y_px=-10, zoom=1.2))
    return {
        **{name: one(along(name)) for name in PATHS},
        **{name: one(path) for name, path in FAST_PATHS.items()},
        "variable rate": Script((Shot(((first, along("shake, 0.8 Hz")),)),), has_variable_rate=True),
        "turning head": one(lambda t: Pose(turn_deg=20 * math.sin(2.5 * t))),
        "talking and blinking": one(talking(lambda t: Pose())),
        "the same in the hand": one(talking(in_the_hand)),
        "a blob passes": Script((Shot(((first, along("slow pan")),), passing),)),
        "two people cross": Script((Shot((from_the_left, from_the_right)),)),
        "cut to another framing": Script((Shot(((first, in_the_hand),)), Shot((aside,)))),
        "cut to the same framing": Script((Shot(((first, in_the_hand),)), Shot(((second, in_the_hand),)))),
        "still, H.264": one(lambda t: Pose(), "h264"),
        "held in the hand, H.264": one(in_the_hand, "h264"),
        "talking and blinking, H.264": one(talking(lambda t: Pose()), "h264"),
    }


def times_and_ticks(num_frames: int, *, has_variable_rate: bool) -> tuple[list[float], list[int], Fraction]:
    """Seconds and ticks of each frame, and seconds per tick."""
    if not has_variable_rate:
        return [number / RATE_HZ for number in range(num_frames)], list(range(num_frames)), Fraction(1, RATE_HZ)
    steps = np.random.default_rng(SEED).choice(STEPS_MS, num_frames - 1)
    ticks = [0, *(int(tick) for tick in np.cumsum(steps))]
    return [tick / TICKS_PER_S for tick in ticks], ticks, Fraction(1, TICKS_PER_S)


def make(name: str, script: Script, num_frames: int, eyes_px: float = EYES_PX) -> Scene:
    """A scene of so many frames, shared evenly by its shots."""
    times_s, ticks, time_base = times_and_ticks(num_frames, has_variable_rate=script.has_variable_rate)
    num_shots = len(script.shots)
    begins = [number * num_frames // num_shots for number in range(num_shots)]
    num_people = sum(len(shot.people) for shot in script.shots)
    places_px = np.full((num_frames, num_people, 5, 2), np.nan)
    is_hidden = np.ones((num_frames, num_people, 5), np.bool_)
    mouth, lids = np.zeros((2, num_frames, num_people))
    clean = []
    first_person = 0
    for shot, begin, end in zip(script.shots, begins, [*begins[1:], num_frames], strict=True):
        people = slice(first_person, first_person + len(shot.people))
        for number in range(begin, end):
            moment = draw(shot, times_s[number] - times_s[begin], eyes_px)
            clean.append(moment.clean)
            places_px[number, people], is_hidden[number, people] = moment.places_px, moment.is_hidden
            mouth[number, people] = [pose.mouth for pose in moment.poses]
            lids[number, people] = [pose.lids for pose in moment.poses]
        first_person = people.stop
    frames = []
    for number, picture in enumerate(DEGRADE[script.degraded](clean)):
        still = frame_from_rgb(picture)
        frames.append(Frame(number, ticks[number], time_base, still.planes, still.layout))
    return Scene(name, frames, clean, places_px, is_hidden, tuple(begins[1:]), mouth, lids)
