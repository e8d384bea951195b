"""How still faces stand in their crops: python tests/bench/stillness.py CLIP ...

A restorer draws the same face the same way only where it is given the same crop. For faces that are followed from one
frame to the next, the crops of both are registered to one another (OpenCV's ECC: Evangelidis and Psarakis, PAMI 2008),
and the corners of the face's square are moved along: their way, in % of the eye distance, is what the crop missed.
Printed for crops by each frame's own detection and by the tracker, with the mean difference of their levels.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.face import template_px
from vidrestore.frame import Frame
from vidrestore.models.backends.pytorch import load_detector
from vidrestore.stages.align import cut_crop
from vidrestore.stages.crop_geometry import similarity
from vidrestore.stages.detect import detect_faces
from vidrestore.stages.track import FaceTracker, track_faces
from vidrestore.video.read import VideoReader

CROP_PX = 192
TEMPLATE = template_px("tight", CROP_PX)
EYES_PX = float(TEMPLATE[1, 0] - TEMPLATE[0, 0])
BORDER_PX = 40
"""Around the face, where the background shows."""
MIN_FACE_PX = 40
CORNERS = np.array([[x, y] for x in (BORDER_PX, CROP_PX - BORDER_PX) for y in (BORDER_PX, CROP_PX - BORDER_PX)], float)


def way_percent(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float | None:
    """Root mean square over the corners; None where the crops cannot be registered."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    start = np.eye(2, 3, dtype=np.float32)
    try:
        _, matrix = cv2.findTransformECC(before, after, start, cv2.MOTION_EUCLIDEAN, criteria, None, 5)
    except cv2.error:
        return None
    way = CORNERS @ matrix[:, :2].T + matrix[:, 2] - CORNERS
    return 100 * float(np.sqrt((way**2).sum(axis=1).mean())) / EYES_PX


def stillness(faces: Iterable[tuple[int, int, Frame, NDArray[np.float32]]]) -> str:
    """From (track, number of the frame, frame, landmarks), in order."""
    last: dict[int, tuple[int, NDArray[np.uint8]]] = {}
    ways, differences = [], []
    inner = slice(BORDER_PX, -BORDER_PX)
    for track, number, frame, landmarks_px in faces:
        crop = cut_crop(frame, similarity(landmarks_px.astype(np.float64), TEMPLATE), CROP_PX)
        if crop is None:
            continue
        gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
        if track in last and last[track][0] == number - 1:
            before = last[track][1]
            differences.append(np.abs(before[inner, inner].astype(float) - gray[inner, inner]).mean())
            way = way_percent(before, gray)
            if way is not None:
                ways.append(way)
        last[track] = (number, gray)
    return f"{np.median(ways):.2f}, {np.sqrt(np.mean(np.square(ways))):.2f} | {np.mean(differences):.2f}"


def main(clips: list[Path]) -> None:
    detector = load_detector("retinaface-lite", device="cpu")
    print("| clip | by detection: way, median and RMS, % | levels | tracked: way | levels |")
    print("|---|---|---|---|---|")
    for clip in clips:
        with VideoReader(clip) as reader:
            tracked = list(track_faces(detect_faces(reader.frames(), detector, batch_frames=1), FaceTracker()))
        rows = defaultdict(list)
        for number, found in enumerate(tracked):
            for face in found.faces:
                sides_px = face.box_xyxy_px[2:] - face.box_xyxy_px[:2]
                if face.detected_landmarks_px is not None and min(sides_px) >= MIN_FACE_PX:
                    rows["detected"].append((face.track_id, number, found.frame, face.detected_landmarks_px))
                    rows["tracked"].append((face.track_id, number, found.frame, face.landmarks_px))
        print(f"| {clip.stem} | {stillness(rows['detected'])} | {stillness(rows['tracked'])} |", flush=True)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
