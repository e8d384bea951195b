"""What --reuse gains and changes: python tests/bench/reuse.py

Clips that stand still most of the time, under H.264 at CRF 23, are restored with and without it (embedded models,
models in memory, outputs without loss); the largest differences are those between the two outputs.
"""

import tempfile
from pathlib import Path

import cv2
import numpy as np
from portrait_clips import CLIPS, write_clip

from vidrestore.allocator import keep_freed_memory
from vidrestore.loading import load_models
from vidrestore.options import Options
from vidrestore.pipeline import restore_video
from vidrestore.video.read import VideoReader

BLOCK_PX = 16


def differences(first: Path, second: Path) -> tuple[float, float]:
    """Of luma, in levels: the largest mean of a block of a frame, and the mean within those that differ."""
    largest, means = 0.0, []
    with VideoReader(first) as one, VideoReader(second) as other:
        for a, b in zip(one.frames(), other.frames(), strict=True):
            difference = cv2.absdiff(a.planes[0], b.planes[0]).astype(np.float32)
            size = (a.width_px // BLOCK_PX, a.height_px // BLOCK_PX)
            largest = max(largest, float(cv2.resize(difference, size, interpolation=cv2.INTER_AREA).max()))
            if difference.any():
                means.append(float(difference[difference > 0].mean()))
    return largest, float(np.mean(means)) if means else 0.0


def main() -> None:
    keep_freed_memory()
    models = load_models(Options(model="gpen-lite-256", device="cpu"))
    print("| clip | faces | reused | restore, s | whole run, s | largest difference of a block | mean where any |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (title, pictures) in enumerate(CLIPS.items()):
            source = folder / f"{number}.mp4"
            write_clip(source, pictures())
            reports = {}
            for reuse in (False, True):
                options = Options(reuse=reuse, lossless=True, preset="ultrafast", device="cpu")
                reports[reuse] = restore_video(source, folder / f"{number}{reuse}.mp4", options, models=models)
            largest, mean = differences(folder / f"{number}False.mp4", folder / f"{number}True.mp4")
            plain, reused = reports[False], reports[True]
            cells = [
                title,
                f"{reused.num_faces_restored}",
                f"{reused.num_faces_reused}",
                f"{plain.seconds_per_stage['restore']:.1f} -> {reused.seconds_per_stage['restore']:.1f}",
                f"{plain.seconds_total:.1f} -> {reused.seconds_total:.1f}",
                f"{largest:.1f}",
                f"{mean:.1f}",
            ]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
