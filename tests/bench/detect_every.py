"""Tracks of adaptive detection beside those of every frame: python tests/bench/detect_every.py [CLIP ...] [options]

For each path of `tracking.py` and each clip: the part of the frames that the detector was shown, ms a frame for
detection and tracking both ways (alternating in one process, the fastest of --repeats; in brackets CPU time, which
other programs disturb less: set OMP_NUM_THREADS=1 for it), how far the landmarks of both lie apart (root mean square
over frames, faces and points, and the worst face, in % of its eye distance; in brackets % of its size, because the eyes
of a profile are near each other), faces with another id, and faces that only one of both has.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tracking import PATHS, moved, portrait_and_landmarks

from vidrestore.face import Detection, TrackedFace, box_size_px, eye_distance_px
from vidrestore.frame import Frame, FrameFaces
from vidrestore.models.backends.pytorch import load_detector
from vidrestore.models.spec import FaceDetector
from vidrestore.options import Options
from vidrestore.stages.cuts import CutsAhead
from vidrestore.stages.look import look_for_faces
from vidrestore.stages.matching import matches
from vidrestore.stages.track import FaceTracker, track_faces
from vidrestore.video.read import VideoReader

Tracked = list[FrameFaces[TrackedFace]]


class Counted:
    """A detector, and how many images it was shown."""

    def __init__(self, detector: FaceDetector) -> None:
        self.spec, self.sha256, self.batch_images = detector.spec, detector.sha256, detector.batch_images
        self.num_images = 0
        self._detector = detector

    def detect(self, images: NDArray[np.uint8]) -> list[tuple[Detection, ...]]:
        self.num_images += len(images)
        return self._detector.detect(images)


@dataclass
class Difference:
    """Between two trackings of one clip."""

    of_eyes: list[float]
    """% of the eye distance for each face of each frame that both have."""
    of_size: list[float]
    where: list[int]
    """The frames of these."""
    num_other_ids: int = 0
    only_in_first: int = 0
    only_in_second: int = 0


def tracked(frames: list[Frame], detector: Counted, every: int) -> tuple[Tracked, tuple[float, float], int]:
    """(tracks, ms a frame by the clock and of the CPU, images that the detector was shown)."""
    cuts, before = CutsAhead(), detector.num_images
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    looks = look_for_faces(frames, detector, cuts, every=every)
    tracks = list(track_faces(looks, FaceTracker(is_cut=cuts.was_cut)))
    seconds = time.perf_counter() - begin_s, time.process_time() - begin_cpu_s
    return tracks, (1000 * seconds[0] / len(frames), 1000 * seconds[1] / len(frames)), detector.num_images - before


def boxes(faces: tuple[TrackedFace, ...]) -> NDArray[np.float32]:
    return np.array([face.box_xyxy_px for face in faces], np.float32).reshape(-1, 4)


def difference(first: Tracked, second: Tracked) -> Difference:
    found = Difference([], [], [])
    for one, other in zip(first, second, strict=True):
        pairs = matches(boxes(one.faces), other.faces)
        found.only_in_first += len(one.faces) - len(pairs)
        found.only_in_second += len(other.faces) - len(pairs)
        for row, column in pairs:
            face, twin = one.faces[row], other.faces[column]
            apart_px = np.sqrt(((face.landmarks_px - twin.landmarks_px) ** 2).sum(axis=1).mean())
            found.of_eyes.append(float(100 * apart_px / eye_distance_px(face.landmarks_px)))
            found.of_size.append(float(100 * apart_px / box_size_px(face.box_xyxy_px)))
            found.where.append(one.frame.index)
            found.num_other_ids += face.track_id != twin.track_id
    return found


def rms(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values else 0.0


def scaled(frame: Frame, width_px: int, height_px: int) -> Frame:
    """The frame with all planes enlarged or reduced, without keeping its aspect."""
    sides = [
        (round(width_px * plane.shape[1] / frame.width_px), round(height_px * plane.shape[0] / frame.height_px))
        for plane in frame.planes
    ]
    planes = tuple(cv2.resize(plane, size) for plane, size in zip(frame.planes, sides, strict=True))
    return Frame(frame.index, frame.pts, frame.time_base, planes, frame.layout)


def inputs(clips: list[Path], detector: FaceDetector) -> Iterator[tuple[str, list[Frame]]]:
    portrait, landmarks = portrait_and_landmarks(detector)
    for name, path in PATHS.items():
        yield name, moved(portrait, landmarks, path)[0]
    for clip in clips:
        with VideoReader(clip) as reader:
            yield clip.stem, list(reader.frames())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, help="short ones: all of their frames are kept in memory")
    parser.add_argument("--every", type=int, default=Options().detect_every)
    parser.add_argument("--detector", default="retinaface-lite")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", help="WIDTHxHEIGHT to which all frames are scaled first")
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    detector = Counted(load_detector(given.detector, device=given.device))
    print("| | looked at | ms a frame, every | adaptive | RMS | worst, frame | other ids | only every / adaptive |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for name, frames in inputs(given.clips, detector):
        if given.size:
            frames = [scaled(frame, *map(int, given.size.split("x"))) for frame in frames]
        every_ms, adaptive_ms = [], []
        for _ in range(given.repeats):
            first, milliseconds, _ = tracked(frames, detector, 1)
            every_ms.append(milliseconds)
            second, milliseconds, looks = tracked(frames, detector, given.every)
            adaptive_ms.append(milliseconds)
        row = (100 * looks / len(frames), *np.min(every_ms, axis=0), *np.min(adaptive_ms, axis=0))
        apart = difference(first, second)
        worst = max(range(len(apart.of_eyes)), key=apart.of_eyes.__getitem__, default=None)
        worst_text = "-" if worst is None else f"{apart.of_eyes[worst]:.1f}%, {apart.where[worst]}"
        print(
            f"| {name} | {row[0]:.0f}% | {row[1]:.1f} ({row[2]:.1f}) | {row[3]:.1f} ({row[4]:.1f}) "
            f"| {rms(apart.of_eyes):.2f}% ({rms(apart.of_size):.2f}%) | {worst_text} "
            f"| {apart.num_other_ids} of {len(apart.where)} | {apart.only_in_first} / {apart.only_in_second} |",
            flush=True,
        )
        rows.append(row)
    mean = np.mean(rows, axis=0)
    print(f"| mean | {mean[0]:.0f}% | {mean[1]:.1f} ({mean[2]:.1f}) | {mean[3]:.1f} ({mean[4]:.1f}) | | | | |")


if __name__ == "__main__":
    main()
