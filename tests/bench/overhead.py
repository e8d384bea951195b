"""What everything around the restorer costs: python tests/bench/overhead.py [--frames 40] [--size 512] [--no-face]

A made clip of 1280x720 with one face of 260 px is restored by a GPEN of the released shape with random weights, on the
CPU. Printed are the CPU seconds of the whole run over those of the restorer alone: the same faces once more, with
nothing beside it. `--no-face` shows what frames without any cost: wall-clock seconds by stages.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from network import random_gpen
from numpy.typing import NDArray
from portrait_clips import faceless, moving, write_clip

from vidrestore.allocator import keep_freed_memory
from vidrestore.loading import Models, load_models
from vidrestore.models.spec import Restorer
from vidrestore.models.weights import write_weights
from vidrestore.options import Options
from vidrestore.pipeline import restore_video

WIDTH_PX, HEIGHT_PX, ZOOM = 1280, 720, 1.6
NUM_ALONE = 4
"""Faces that are restored once more with nothing beside it."""


class Recording:
    """A restorer that keeps the first crops."""

    def __init__(self, restorer: Restorer) -> None:
        self.restorer = restorer
        self.spec, self.sha256 = restorer.spec, restorer.sha256
        self.engine_name, self.device_name = restorer.engine_name, restorer.device_name
        self.dtype_name = restorer.dtype_name
        self.kept: list[NDArray[np.uint8]] = []

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if len(self.kept) < NUM_ALONE:
            self.kept.extend(crop.copy() for crop in crops)
        return self.restorer.restore(crops)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--no-face", action="store_true")
    given = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, clip = folder / "random.safetensors", folder / "clip.mp4"
        write_weights(random_gpen(given.size).state_dict(), {}, weights)
        size = (given.frames, WIDTH_PX, HEIGHT_PX)
        write_clip(clip, faceless(*size) if given.no_face else moving(*size, ZOOM))
        options = Options(model=str(weights), device="cpu")
        models = load_models(options)
        recording = Recording(models.restorer)
        report = restore_video(clip, folder / "out.mp4", options, models=Models(models.detector, recording))
    total_s = report.cpu_seconds_total
    print(f"{report.num_frames} frames, {report.num_faces_restored} faces of {given.size} px")
    print(f"{report.seconds_total:.2f} s, {total_s:.2f} CPU seconds; seconds by stages:")
    for stage, seconds in report.seconds_per_stage.items():
        print(f"  {stage}: {seconds:.2f} ({1000 * seconds / report.num_frames:.1f} ms a frame)")
    if recording.kept:
        crops = np.stack(recording.kept[:NUM_ALONE])
        begin_s = time.process_time()
        recording.restorer.restore(crops)
        alone_s = (time.process_time() - begin_s) / len(crops) * report.num_faces_restored
        print(f"the restorer alone {alone_s:.2f} CPU seconds; the whole run {total_s / alone_s:.3f} times as much")


if __name__ == "__main__":
    main()
