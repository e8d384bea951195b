"""Jitter and error of smoothed faces: python tests/bench/tracking.py [DETECTOR]

matplotlib's portrait of Grace Hopper is moved along known paths at 25 frames/s (eyes 45 px apart), blurred, noised and
JPEG compressed; each frame is detected alone, and then smoothed with the default lag: from detections in every frame,
and as `restore` does it, which looks at fewer. The truth is what the detector finds in the clean portrait, moved along;
a constant bias of each point is removed. The crop is the embedded restorer's; its corners are what must be steady. The
last column is optical flow alone, from one frame to the next: how far off it takes those corners.
"""

import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidrestore.face import Detection, TrackedFace, eye_distance_px, template_px
from vidrestore.frame import Frame, FrameFaces
from vidrestore.images import frame_from_rgb
from vidrestore.models.backends.pytorch import load_detector
from vidrestore.models.spec import FaceDetector
from vidrestore.options import Options
from vidrestore.stages.crop_geometry import crop_corners_px, invert, similarity
from vidrestore.stages.cuts import CutsAhead
from vidrestore.stages.detect import detect_faces
from vidrestore.stages.flow import carry_face
from vidrestore.stages.look import look_for_faces
from vidrestore.stages.track import FaceTracker, track_faces

RATE_HZ, NUM_FRAMES, WIDTH_PX, HEIGHT_PX, EYES_PX = 25, 125, 480, 360, 45.0

# time in s -> shift x, shift y (px), zoom, roll (degrees)
Path2D = Callable[[float], tuple[float, float, float, float]]
PATHS: dict[str, Path2D] = {
    "still": lambda t: (0, 0, 1, 0),
    "pan": lambda t: (22 * t - 55, 6 * t - 15, 1, 0),
    "zoom": lambda t: (0, 0, 0.8 + 0.09 * t, 0),
    "roll": lambda t: (0, 0, 1, 6 * t - 15),
    "shake, 0.8 Hz": lambda t: (9 * np.sin(5.03 * t), 5 * np.cos(5.03 * t), 1, 2 * np.sin(5.03 * t)),
    "fast shake, 1.8 Hz": lambda t: (12 * np.sin(11.3 * t), 6 * np.cos(10.1 * t), 1, 3 * np.sin(11.3 * t)),
    "stop and go": lambda t: (40 * np.clip(t % 2 - 1, 0, 1) + 40 * (t // 2) - 50, 0, 1, 0),
    "slow pan": lambda t: (6 * t - 15, 2 * t - 5, 1, 0),
    "nod": lambda t: (0, 10 * np.sin(7.54 * t), 1, 0),
    "held in the hand": lambda t: (
        4 * np.sin(3.1 * t) + 2 * np.sin(7.7 * t + 1),
        3 * np.sin(4.3 * t + 2) + 1.5 * np.sin(9.1 * t),
        1 + 0.03 * np.sin(2 * t),
        1.5 * np.sin(5.1 * t),
    ),
}
TEMPLATE = template_px("tight", 256)
LAGS_S = (0, 0.04, 0.08, 0.2, 0.5, 1, 2, 10)
"""The paths take 5 s, so that the last is the whole clip."""


def noisy(clean: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    soft = cv2.GaussianBlur(clean, (0, 0), 1.0).astype(np.float32)
    levels = np.clip(soft + rng.normal(0, 10, soft.shape), 0, 255).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, 25])[1], cv2.IMREAD_COLOR)


def error_and_jitter(points: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """(T, 5, 2) -> RMSE in px, RMS second difference of the error in % of the eye distance."""
    error = points - truth
    error = error - error.mean(axis=0)
    jitter = np.sqrt((np.diff(error, n=2, axis=0) ** 2).sum(axis=-1).mean())
    return float(np.sqrt((error**2).sum(axis=-1).mean())), float(100 * jitter / EYES_PX)


def portrait_and_landmarks(detector: FaceDetector) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """(H, W, 3) uint8 RGB and the (5, 2) points that the detector finds in it."""
    portrait = np.asarray(Image.open(Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg").convert("RGB"))
    (found,) = detect_faces([frame_from_rgb(portrait)], detector, batch_frames=1)
    return portrait, found.faces[0].landmarks_px.astype(np.float64)


def moved(
    portrait: NDArray[np.uint8], landmarks: NDArray[np.float64], path: Path2D
) -> tuple[list[Frame], list[NDArray[np.float64]]]:
    """The degraded frames of a path, and where the landmarks truly are in each."""
    rng = np.random.default_rng(3)
    eyes_px, center = eye_distance_px(landmarks), landmarks.mean(axis=0)
    frames, truth = [], []
    for index in range(NUM_FRAMES):
        x, y, zoom, roll_deg = path(index / RATE_HZ)
        matrix = cv2.getRotationMatrix2D(center.tolist(), roll_deg, zoom * EYES_PX / eyes_px)
        matrix[:, 2] += np.array([WIDTH_PX / 2 + x, HEIGHT_PX / 2 + y]) - center
        picture = cv2.warpAffine(portrait, matrix, (WIDTH_PX, HEIGHT_PX), borderMode=cv2.BORDER_REPLICATE)
        planes = frame_from_rgb(noisy(picture, rng))
        frames.append(Frame(index, index, Fraction(1, RATE_HZ), planes.planes, planes.layout))
        truth.append(landmarks @ matrix[:, :2].T + matrix[:, 2])
    return frames, truth


def crop_corners(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 5, 2) -> (T, 4, 2)"""
    return np.array([crop_corners_px(similarity(points, TEMPLATE), 256) for points in landmarks])


def figures(frames: list[FrameFaces[TrackedFace]], truth: NDArray[np.float64]) -> tuple[float, float, float]:
    """RMSE in px, jitter of the landmarks and of the crop's corners in % of the eye distance."""
    landmarks = np.array([frame.faces[0].landmarks_px for frame in frames], np.float64)
    corners = error_and_jitter(crop_corners(landmarks), crop_corners(truth))
    return *error_and_jitter(landmarks, truth), corners[1]


def flow_error_px(frames: list[Frame], found: list[FrameFaces[Detection]], truth: NDArray[np.float64]) -> float:
    """Root mean square over the crop's corners and the frames."""
    squares = []
    for number, (before, frame) in enumerate(pairwise(frames)):
        carried = carry_face(before, frame, found[number].faces[0].box_xyxy_px)
        if carried is not None:
            corners = crop_corners(truth[number : number + 1])[0]
            crop_from_before, crop_from_frame = (similarity(truth[k], TEMPLATE) for k in (number, number + 1))
            in_crop = corners @ crop_from_before[:, :2].T + crop_from_before[:, 2]
            frame_from_crop = invert(crop_from_frame)
            true = in_crop @ frame_from_crop[:, :2].T + frame_from_crop[:, 2]
            matrix = carried.frame_from_before
            squares.append(np.square(corners @ matrix[:, :2].T + matrix[:, 2] - true).sum(axis=1).mean())
    return float(np.sqrt(np.mean(squares)))


def tracked(frames: list[Frame], detector: FaceDetector, lag_s: float) -> list[FrameFaces[TrackedFace]]:
    """As `restore` does it."""
    cuts = CutsAhead()
    looks = look_for_faces(frames, detector, cuts, every=Options().detect_every)
    return list(track_faces(looks, FaceTracker(lag_s=lag_s, is_cut=cuts.was_cut)))


def main(detector_name: str) -> None:
    detector = load_detector(detector_name, device="cpu")
    portrait, landmarks = portrait_and_landmarks(detector)
    heads = ("RMSE, px", "landmark jitter, %", "crop jitter, %")
    print("| path | " + " | ".join(f"{head}: detected, every frame, default" for head in heads) + " | flow, px |")
    print("|" + "---|" * (len(heads) + 2))
    curve: dict[float, list[tuple[float, float, float]]] = {lag_s: [] for lag_s in LAGS_S}
    for name, path in PATHS.items():
        frames, true_points = moved(portrait, landmarks, path)
        truth = np.array(true_points)
        found = list(detect_faces(frames, detector, batch_frames=1))
        raw = np.array([frame.faces[0].landmarks_px for frame in found], np.float64)
        rows = [
            (*error_and_jitter(raw, truth), error_and_jitter(crop_corners(raw), crop_corners(truth))[1]),
            figures(list(track_faces(found, FaceTracker())), truth),
            figures(tracked(frames, detector, Options().lag), truth),
        ]
        cells = (" -> ".join(f"{value:.2f}" for value in column) for column in zip(*rows, strict=True))
        print(f"| {name} | {' | '.join(cells)} | {flow_error_px(frames, found, truth):.3f} |", flush=True)
        for lag_s, of_paths in curve.items():
            of_paths.append(figures(tracked(frames, detector, lag_s), truth))
    print("\n| --lag, s | " + " | ".join(map(str, LAGS_S)) + " |\n" + "|---" * (len(LAGS_S) + 1) + "|")
    for column, head in enumerate(heads):
        means = (f"{np.mean([row[column] for row in of_paths]):.2f}" for of_paths in curve.values())
        print(f"| {head}, mean of the paths | {' | '.join(means)} |")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "retinaface-lite")
