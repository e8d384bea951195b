"""The whole pipeline on the first seconds of a clip."""

import tempfile
from collections.abc import Mapping
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2

from vidrestore.bench.result import ClipTiming
from vidrestore.demo import RATE_HZ, moving_portrait
from vidrestore.loading import Models
from vidrestore.options import Options
from vidrestore.pipeline import restore_video

WIDTH_PX, HEIGHT_PX = 1280, 720
MIN_S, MAX_S = 0.4, 3.0
"""Of the clip: fewer frames would only fill the queues, more would tell no more."""
OTHER_STAGES_S = 0.1
"""About what a frame takes on two cores beside the restoring of its face: says how many there is time for."""
LANES = {"decode": "decode", "encode": "encode"}
"""Stages that have a thread of their own; all others share one (`pipeline.py`)."""
WAIT_FOR_DEVICE = "wait for device"
"""Only in a report of `device/lane.py`."""
DEVICE_STAGES = ("align", "restore", "paste")
"""What a GPU does beside all threads; then the report has its seconds (with a few of a thread's)."""
NO_WORK = ("load models", "wait for decoder", WAIT_FOR_DEVICE)


def time_clip(
    source: Path | None, models: Models, *, device: str, batch_size: int, a_face_s: float, budget_s: float
) -> ClipTiming:
    """Restore the beginning of `source`, or of a made clip with one face, and throw the result away.

    Raises SourceError for a clip that cannot be read.
    """
    end_s = min(max(budget_s / (a_face_s + OTHER_STAGES_S) / RATE_HZ, MIN_S), MAX_S)
    num_frames = round(end_s * RATE_HZ)
    if source is None:
        # Whole batches: on a GPU a rest, of a size that has not come before, takes seconds to prepare.
        num_frames = -(-num_frames // batch_size) * batch_size
        end_s = num_frames / RATE_HZ
    options = Options(device=device, batch_size=batch_size, end=end_s)
    with tempfile.TemporaryDirectory(prefix="vidrestore-bench-") as folder:
        clip = source
        if clip is None:
            clip = Path(folder) / "portrait.mp4"
            write_portrait_clip(clip, num_frames=num_frames)
        report = restore_video(clip, Path(folder) / "restored.mkv", options, models=models)
    frames = max(report.num_frames, 1)
    stages = {name: seconds for name, seconds in report.seconds_per_stage.items() if name not in NO_WORK}
    return ClipTiming(
        source=f"a made clip of {WIDTH_PX}x{HEIGHT_PX}" if source is None else str(source),
        num_frames=report.num_frames,
        num_faces=report.num_faces_found,
        frames_per_second=frames / report.seconds_total,
        seconds_a_frame={name: seconds / frames for name, seconds in stages.items()},
        limiting_stage=limiting_stage(report.seconds_per_stage),
    )


def limiting_stage(seconds_per_stage: Mapping[str, float]) -> str:
    """Lanes run beside each other: the one with the most work is waited for, and in it the longest stage."""
    lane_of = dict(LANES)
    if WAIT_FOR_DEVICE in seconds_per_stage:
        lane_of |= dict.fromkeys(DEVICE_STAGES, "device")
    lanes: dict[str, dict[str, float]] = {}
    for name, seconds in seconds_per_stage.items():
        if name not in NO_WORK:
            lanes.setdefault(lane_of.get(name, "compute"), {})[name] = seconds
    longest = max(lanes.values(), key=lambda lane: sum(lane.values()))
    return max(longest, key=lambda name: longest[name])


def write_portrait_clip(path: Path, *, num_frames: int) -> None:
    """The demo's moving portrait, twice as large, with its borders drawn out to 720p; H.264."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE_HZ, options={"crf": "20", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        for index, small in enumerate(islice(moving_portrait(), num_frames)):
            scale = HEIGHT_PX / small.shape[0]
            large = cv2.resize(small, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            border_px = (WIDTH_PX - large.shape[1]) // 2
            picture = cv2.copyMakeBorder(large, 0, 0, border_px, border_px, cv2.BORDER_REPLICATE)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE_HZ)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
