"""What is to be seen where segments meet: python tests/bench/seams.py CLIP...

Each clip is restored without loss in one segment, and in segments of 50 frames (which have 500 elsewhere), with
--temporal light and strong. Where a segment begins, a face depends on the frames before it only through its warm-up:
the table has the largest difference of any sample in the first frames of segments, and the mean over the samples
that differ at all, beside what the restoration changed in those frames.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from vidrestore import work
from vidrestore.allocator import keep_freed_memory
from vidrestore.loading import load_models
from vidrestore.options import Options
from vidrestore.pipeline import restore_video
from vidrestore.video.read import VideoReader

SEGMENT_FRAMES = 50


def main() -> None:
    keep_freed_memory()
    options = Options(model="gpen-lite-256", device="cpu", lossless=True, overwrite=True)
    models = load_models(options)
    print("| clip | --temporal | seams | largest difference, levels | mean where any | mean change by restoring |")
    print("|---|---|---|---|---|---|")
    for clip in map(Path, sys.argv[1:]):
        for temporal in ("light", "strong"):
            own = replace(options, temporal=temporal)
            with tempfile.TemporaryDirectory() as name:
                whole, parts = Path(name) / "whole.mkv", Path(name) / "parts.mkv"
                work.SEGMENT_FRAMES = 10**9
                restore_video(clip, whole, own, models=models)
                work.SEGMENT_FRAMES = SEGMENT_FRAMES
                restore_video(clip, parts, own, models=models)
                worst, means, changes = 0, [], []
                with VideoReader(clip) as before, VideoReader(whole) as one, VideoReader(parts) as other:
                    frames = zip(before.frames(), one.frames(), other.frames(), strict=True)
                    for index, (source, a, b) in enumerate(frames):
                        difference = np.abs(a.planes[0].astype(int) - b.planes[0])
                        worst = max(worst, int(difference.max()))
                        if index % SEGMENT_FRAMES == 0 and index:
                            change = np.abs(a.planes[0].astype(int) - source.planes[0])
                            means.append(float(difference[difference > 0].mean()) if difference.any() else 0.0)
                            changes.append(float(change[change > 0].mean()) if change.any() else 0.0)
                print(
                    f"| {clip.stem} | {temporal} | {len(means)} | {worst} | {np.mean(means):.2f} | "
                    f"{np.mean(changes):.2f} |"
                )


if __name__ == "__main__":
    main()
