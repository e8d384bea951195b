"""Who is who when people cross, hide and leave: python tests/bench/crossing.py [PORTRAIT ...] [--detector NAME]

Heads cut out of portraits (by default matplotlib's Grace Hopper, scikit-image's astronaut, and both mirrored in another
light) walk over a still background at 25 frames/s, eyes 45 px apart, blurred, noised and JPEG compressed as in
`tracking.py`. The truth is what the detector finds in each clean portrait, moved along. Each scene is tracked from
detections in every frame, and as `restore` does it, which looks at fewer; each cell has both.

Columns: id switches (a person's id differs from the one before), pairs of people who share an id, ids given to all
people, frames in which a person of whom more than 70 % is to be seen has no face, seconds of bridged gaps, strength of
the restoration on faces of which less than 20 % is to be seen (mean over those frames; it should be 0), the least
strength on faces in full view that neither come nor go (1: no blink), and how far the crop's corners are off where 5 %
or more of a face is hidden and the restoration is at half strength or more (root mean square and maximum, % of the eye
distance; mostly the detector's own error on half a face).
"""

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment

from tests.bench.tracking import EYES_PX, RATE_HZ, TEMPLATE, noisy
from vidrestore.face import Detection, TrackedFace, eye_distance_px
from vidrestore.frame import Frame, FrameFaces
from vidrestore.images import frame_from_rgb
from vidrestore.models.backends.pytorch import load_detector
from vidrestore.models.spec import FaceDetector
from vidrestore.options import Options
from vidrestore.stages.crop_geometry import crop_corners_px, similarity
from vidrestore.stages.cuts import CutsAhead
from vidrestore.stages.detect import detect_faces
from vidrestore.stages.look import look_for_faces
from vidrestore.stages.track import FaceTracker, track_faces

WIDTH_PX, HEIGHT_PX = 640, 360
FADE_FRAMES = 5
"""So far from where a person was hidden, came or goes, the restoration may be fading."""
IN_VIEW, HIDDEN, TOUCHED = 0.7, 0.2, 0.95
"""Parts of a face that are to be seen."""

Place = tuple[float, float, float]
"""Centre of the face x, y in px, and its size against the usual one."""
Walk = Callable[[float], Place | None]
"""Time in s -> where a person is, or None while not on the scene."""
Blob = Callable[[float], tuple[float, float, float]]
"""Time in s -> centre x, y and radius in px of something that hides what is behind it."""


@dataclass(frozen=True)
class Portrait:
    picture: NDArray[np.uint8]
    """(H, W, 3) RGB"""
    landmarks_px: NDArray[np.float64]
    head: NDArray[np.float32]
    """(H, W) 1 on the head, 0 on what is around it."""


@dataclass(frozen=True)
class Scene:
    walks: tuple[Walk, ...]
    """The later ones walk in front."""
    blobs: tuple[Blob, ...] = ()
    seconds: float = 4.0
    people: tuple[int, ...] = (0, 1, 2, 3)
    """Whose face each of the walks has."""


@dataclass(frozen=True)
class Truth:
    """Of one person in one frame."""

    landmarks_px: NDArray[np.float64]
    seen_part: float
    """Of the face's ellipse."""


def standing(x: float, y: float = 180, size: float = 1) -> Walk:
    return lambda t: (x, y, size)


def walking(x: float, y: float, speed_px_s: float, size: float = 1) -> Walk:
    return lambda t: (x + speed_px_s * t, y, size)


def stopping(x: float, speed_px_s: float, *, then_px_s: float) -> Walk:
    return lambda t: (x + speed_px_s * min(t, 1.4) + then_px_s * max(t - 2.1, 0), 180, 1)


def only(walk: Walk, begin_s: float, end_s: float) -> Walk:
    return lambda t: walk(t) if begin_s <= t < end_s else None


def first_then(first: Walk, seconds: float, then: Walk) -> Walk:
    return lambda t: first(t) if t < seconds else then(t)


def hiding(x: float, y: float, hidden_s: float, radius_px: float = 90) -> Blob:
    """Comes from above within 0.3 s, stays, and leaves as fast."""
    return lambda t: (x, y - 300 * max(1 - max(t - 1.0, 0) / 0.3, (t - 1.3 - hidden_s) / 0.3, 0.0), radius_px)


SCENES: dict[str, Scene] = {
    "crossing": Scene((walking(120, 180, 100), walking(520, 185, -100))),
    "crossing, other one in front": Scene((walking(520, 185, -100), walking(120, 180, 100)), people=(1, 0)),
    "overtaking": Scene((walking(200, 180, 60), walking(60, 190, 140))),
    "crossing fast": Scene((walking(70, 180, 250), walking(570, 180, -250)), seconds=2),
    "crossing slowly, shifted": Scene((walking(240, 165, 40), walking(400, 200, -40))),
    "stops behind, goes back": Scene((stopping(150, 120, then_px_s=-120), standing(320))),
    "stops behind, goes on": Scene((stopping(150, 120, then_px_s=120), standing(320))),
    "three people": Scene((standing(320), walking(100, 185, 110), walking(540, 175, -110))),
    "far and near": Scene((walking(120, 160, 100, 0.6), walking(520, 190, -100, 1.2))),
    **{
        f"hidden by a blob for {hidden_s} s": Scene((walking(280, 180, 10),), (hiding(300, 180, hidden_s),))
        for hidden_s in (0.1, 0.3, 0.6, 0.9)
    },
    "walks on behind a blob": Scene((walking(130, 180, 110),), (lambda t: (330, 180, 95),)),
    "moves 2 heads aside while hidden": Scene(
        (first_then(standing(200), 1.6, standing(380)),), (hiding(200, 180, 0.6), hiding(380, 180, 0.6))
    ),
    "a hand passes over the face": Scene((walking(260, 180, 15),), (lambda t: (100 + 120 * t, 195, 38),)),
    "a hand stays on the cheek": Scene(
        (walking(290, 180, 12),),
        (lambda t: (262 + 12 * t, 330 - 130 * np.clip(t - 1, 0, 1) + 130 * np.clip(t - 3, 0, 1), 34),),
    ),
    "leaves and comes back": Scene((lambda t: (560 + 90 * min(t, 1.3) - 90 * max(t - 1.7, 0), 180, 1),), seconds=3.5),
    "another takes the place": Scene((only(standing(300), 0, 1.5), only(standing(300), 1.9, 4))),
    "one leaves, another enters opposite": Scene((walking(500, 180, 120), lambda t: (-260 + 140 * t, 180, 1))),
}


def portrait_of(picture: NDArray[np.uint8], detector: FaceDetector) -> Portrait:
    """Its largest face."""
    (found,) = detect_faces([frame_from_rgb(picture)], detector, batch_frames=1)
    face = max(found.faces, key=lambda each: eye_distance_px(each.landmarks_px))
    landmarks = face.landmarks_px.astype(np.float64)
    eyes_px = eye_distance_px(landmarks)
    return Portrait(picture, landmarks, ellipse(picture.shape[:2], landmarks, 1.3, 1.75, soft_px=0.06 * eyes_px))


def ellipse(
    shape: tuple[int, ...],
    landmarks_px: NDArray[np.float64],
    half_width: float,
    half_height: float,
    *,
    soft_px: float = 0,
) -> NDArray[np.float32]:
    """(h, w) 1 inside one about the landmarks, half axes in eye distances."""
    eyes_px = eye_distance_px(landmarks_px)
    x, y = landmarks_px.mean(axis=0) - (0, 0.2 * eyes_px)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside = ((columns - x) / (half_width * eyes_px)) ** 2 + ((rows - y) / (half_height * eyes_px)) ** 2 <= 1
    mask = inside.astype(np.float32)
    return cv2.GaussianBlur(mask, (0, 0), soft_px) if soft_px else mask


def default_portraits() -> list[NDArray[np.uint8]]:
    hopper = np.asarray(Image.open(Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg").convert("RGB"))
    astronaut = skimage.data.astronaut()[:300, 90:390]
    others = [
        np.clip(each[:, ::-1] * gain, 0, 255).astype(np.uint8)
        for each, gain in ((hopper, (0.6, 0.75, 0.8)), (astronaut, (0.9, 0.65, 0.5)))
    ]
    return [hopper, astronaut, *others]


def played(scene: Scene, portraits: Sequence[Portrait]) -> tuple[list[Frame], list[dict[int, Truth]]]:
    """The degraded frames, and for each the people in it by their number."""
    rng = np.random.default_rng(7)
    rough = rng.uniform(60, 190, (12, 20, 3)).astype(np.float32)
    background = cv2.resize(rough, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    stuff = cv2.resize(rng.uniform(20, 230, (20, 20, 3)).astype(np.float32), (200, 200), interpolation=cv2.INTER_CUBIC)
    rows, columns = np.ogrid[:HEIGHT_PX, :WIDTH_PX]
    frames, truths = [], []
    for index in range(round(scene.seconds * RATE_HZ)):
        t = index / RATE_HZ
        picture = background.copy()
        faces: dict[int, tuple[NDArray[np.float64], NDArray[np.float32]]] = {}
        for number, walk in zip(scene.people, scene.walks, strict=False):
            place = walk(t)
            if place is None:
                continue
            portrait = portraits[number]
            x, y, size = place
            scale = size * EYES_PX / eye_distance_px(portrait.landmarks_px)
            shift = np.array([x, y]) - scale * portrait.landmarks_px.mean(axis=0)
            matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
            flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            head = cv2.warpAffine(portrait.head, matrix, (WIDTH_PX, HEIGHT_PX), flags=flags)
            person = cv2.warpAffine(portrait.picture.astype(np.float32), matrix, (WIDTH_PX, HEIGHT_PX), flags=flags)
            picture += head[..., None] * (person - picture)
            landmarks = portrait.landmarks_px * scale + shift
            for _, seen in faces.values():
                seen *= 1 - head
            faces[number] = landmarks, ellipse((HEIGHT_PX, WIDTH_PX), landmarks, 0.95, 1.3)
        for blob in scene.blobs:
            x, y, radius_px = blob(t)
            inside = (((columns - x) ** 2 + (rows - y) ** 2) <= radius_px**2).astype(np.float32)
            moved = np.array([[1, 0, x - 100], [0, 1, y - 100]], np.float64)
            texture = cv2.warpAffine(stuff, moved, (WIDTH_PX, HEIGHT_PX), borderMode=cv2.BORDER_WRAP)
            picture += inside[..., None] * (texture - picture)
            for _, seen in faces.values():
                seen *= 1 - inside
        planes = frame_from_rgb(noisy(np.clip(picture, 0, 255).astype(np.uint8), rng))
        frames.append(Frame(index, index, Fraction(1, RATE_HZ), planes.planes, planes.layout))
        # A face that reaches beyond the picture is not all to be seen either.
        whole = {number: 0.95 * 1.3 * np.pi * eye_distance_px(points) ** 2 for number, (points, _) in faces.items()}
        truths.append({n: Truth(points, float(seen.sum()) / whole[n]) for n, (points, seen) in faces.items()})
    return frames, truths


class Remembering:
    """A detector that is asked of each picture only once."""

    def __init__(self, detector: FaceDetector) -> None:
        self.spec, self.sha256, self.batch_images = detector.spec, detector.sha256, detector.batch_images
        self._detector = detector
        self._known: dict[bytes, tuple[Detection, ...]] = {}

    def detect(self, images: NDArray[np.uint8]) -> list[tuple[Detection, ...]]:
        keys = [hashlib.blake2b(image.tobytes()).digest() for image in images]
        new = [k for k, key in enumerate(keys) if key not in self._known]
        if new:
            self._known |= zip((keys[k] for k in new), self._detector.detect(images[new]), strict=True)
        return [self._known[key] for key in keys]


def who_is_who(faces: Sequence[TrackedFace], people: dict[int, Truth]) -> dict[int, TrackedFace]:
    """The face that lies nearest to each person, if less than an eye distance off.

    Where two are in one place, the one that is seen goes with the one that is shown.
    """
    numbers = list(people)
    if not faces or not numbers:
        return {}
    apart = np.array(
        [
            [
                np.linalg.norm(face.landmarks_px.mean(axis=0) - people[n].landmarks_px.mean(axis=0))
                / eye_distance_px(people[n].landmarks_px)
                + (10 if (people[n].seen_part < HIDDEN) != (face.strength == 0) else 0)
                for face in faces
            ]
            for n in numbers
        ]
    )
    rows, columns = linear_sum_assignment(apart)
    return {numbers[r]: faces[c] for r, c in zip(rows, columns, strict=True) if apart[r, c] % 10 < 1}


def corner_error_percent(face: TrackedFace, truth: Truth) -> float:
    corners = [
        crop_corners_px(similarity(points.astype(np.float64), TEMPLATE), 256)
        for points in (face.landmarks_px, truth.landmarks_px)
    ]
    off = np.sqrt(np.square(corners[0] - corners[1]).sum(axis=1).mean())
    return float(100 * off / eye_distance_px(truth.landmarks_px))


def figures(frames: list[FrameFaces[TrackedFace]], truths: list[dict[int, Truth]]) -> dict[str, float]:
    switches = missed = 0
    bridged_s, painted, errors, blink = 0.0, [], [], 1.0
    ids: dict[int, list[int]] = {}
    num_frames = len(truths)
    seen = {n: np.array([people[n].seen_part if n in people else 0.0 for people in truths]) for n in range(4)}
    for k, (found, people) in enumerate(zip(frames, truths, strict=True)):
        known = who_is_who(found.faces, people)
        bridged_s += sum(face.seconds_since_seen > 0 and face.strength > 0 for face in found.faces) / RATE_HZ
        for n, truth in people.items():
            face = known.get(n)
            around = seen[n][max(k - FADE_FRAMES, 0) : k + FADE_FRAMES + 1]
            if truth.seen_part > IN_VIEW:
                if face is None:
                    missed += 1
                else:
                    past = ids.setdefault(n, [])
                    switches += bool(past) and past[-1] != face.track_id
                    past.append(face.track_id)
                    if around.min() > TOUCHED and FADE_FRAMES <= k < num_frames - 1:
                        blink = min(blink, face.strength)
            elif truth.seen_part < HIDDEN:
                painted.append(face.strength if face else 0.0)
            if face and truth.seen_part < TOUCHED and face.strength >= 0.5:
                errors.append(corner_error_percent(face, truth))
    squares = np.square(errors).mean() if errors else 0.0
    return {
        "switches": switches,
        "shared": len([1 for n in ids for m in ids if n < m and set(ids[n]) & set(ids[m])]),
        "ids": len({each for past in ids.values() for each in past}),
        "missed": missed,
        "bridged, s": bridged_s,
        "painted": float(np.mean(painted)) if painted else 0.0,
        "least": blink,
        "crop, %": float(np.sqrt(squares)),
        "crop max, %": float(np.max(errors)) if errors else 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("portraits", nargs="*", type=Path)
    parser.add_argument("--detector", default="retinaface-lite")
    parser.add_argument("--scene", help="only those with this in their name")
    asked = parser.parse_args()
    detector = Remembering(load_detector(asked.detector, device="cpu"))
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in asked.portraits] or default_portraits()
    portraits = [portrait_of(pictures[k % len(pictures)], detector) for k in range(4)]
    print(
        "| scene | people | switches | shared | ids | missed | bridged, s | painted | least | crop, % | crop max, % |"
    )
    print("|" + "---|" * 11)
    totals = []
    for name, scene in SCENES.items():
        if asked.scene and asked.scene not in name:
            continue
        frames, truths = played(scene, portraits)
        results = []
        for every in (1, Options().detect_every):
            cuts = CutsAhead()
            looks = look_for_faces(frames, detector, cuts, every=every)
            results.append(figures(list(track_faces(looks, FaceTracker(is_cut=cuts.was_cut))), truths))
        totals.append(results)
        cells = [
            " / ".join(
                f"{result[key]:.{0 if key in ('switches', 'shared', 'ids', 'missed') else 2}f}" for result in results
            )
            for key in results[0]
        ]
        print(f"| {name} | {len(scene.walks)} | {' | '.join(cells)} |", flush=True)
    counted = ("switches", "shared", "ids", "missed")
    sums = [" / ".join(f"{sum(both[k][key] for both in totals):.0f}" for k in (0, 1)) for key in counted]
    print(f"| all | | {' | '.join(sums)} | | | | | |")


if __name__ == "__main__":
    main()
