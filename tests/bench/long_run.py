"""Two hours of 1080p at constant memory: python tests/bench/long_run.py [--minutes 120]

The source is made: a minute of a blurred texture that pans, with sound, repeated by packet copy. In the first half of
each minute a detector that is none sees a face of 300 px; a restorer that is none mirrors it. All else is what a run
does. Printed as it goes: resident memory, threads, open files; in the end, what is left of them, and how far sound and
picture are apart in the output, compared with the source.
"""

import argparse
import os
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.allocator import keep_freed_memory
from vidrestore.frame import RestoredFrame
from vidrestore.loading import Models
from vidrestore.options import Options
from vidrestore.pipeline import restore_video
from vidrestore.report import Report

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.fakes import FixedDetector, IdentityRestorer, face_at

RATE_HZ, SOUND_HZ = 25, 48_000
LOOP_S = 64
"""3,000 packets of AAC; a minute is no whole number of them."""
WIDTH_PX, HEIGHT_PX = 1920, 1080
MARK_PX = 32


class MarkedDetector(FixedDetector):
    """Sees a face where the picture's first corner is white."""

    def detect(self, images: NDArray[np.uint8]) -> list[tuple]:
        face = face_at(WIDTH_PX / 2, HEIGHT_PX / 2, 300)
        return [(face,) if image[MARK_PX // 2, MARK_PX // 2].mean() > 128 else () for image in images]


class MirrorRestorer(IdentityRestorer):
    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(crops[:, :, ::-1])


def write_loop(path: Path) -> None:
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(
        rng.normal(0, 1, (HEIGHT_PX, WIDTH_PX + RATE_HZ * LOOP_S // 2)).astype(np.float32), (0, 0), 12
    )
    texture = np.clip(128 + ground * 40 / ground.std(), 0, 255).astype(np.uint8)
    chroma = np.full((HEIGHT_PX // 2, WIDTH_PX), 128, np.uint8)
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=RATE_HZ, options={"preset": "ultrafast", "crf": "26"})
        video.width, video.height, video.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        sound = file.add_stream("aac", rate=SOUND_HZ)
        for index in range(RATE_HZ * LOOP_S):
            luma = texture[:, index // 2 : index // 2 + WIDTH_PX].copy()
            luma[:MARK_PX, :MARK_PX] = 255 if index < RATE_HZ * LOOP_S // 2 else 0
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.vstack([luma, chroma]), format="yuv420p")))
        file.mux(video.encode(None))
        for index in range(SOUND_HZ * LOOP_S // 1024):
            wave = np.sin(np.arange(1024 * index, 1024 * (index + 1)) * (2 * np.pi * 440 / SOUND_HZ)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(wave[None] / 4, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = SOUND_HZ, 1024 * index
            file.mux(sound.encode(frame))


def repeat(loop: Path, target: Path, minutes: float) -> None:
    """By packet copy, both tracks."""
    with av.open(str(loop)) as source:
        packets = [packet for packet in source.demux() if packet.dts is not None]
        contents = [(packet.stream, bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        with av.open(str(target), "w") as output:
            streams = {stream: output.add_stream_from_template(stream) for stream in source.streams}
            for number in range(round(minutes * 60 / LOOP_S)):
                for stream, content, pts, dts, is_keyframe in contents:
                    packet = av.Packet(content)
                    later = int(number * LOOP_S / stream.time_base)
                    packet.pts, packet.dts, packet.is_keyframe = pts + later, dts + later, is_keyframe
                    packet.time_base, packet.stream = stream.time_base, streams[stream]
                    output.mux(packet)


def ends_s(path: Path) -> tuple[Fraction, Fraction]:
    """Time of the last picture and of the last packet of sound."""
    ends = []
    with av.open(str(path)) as file:
        for stream in (file.streams.video[0], file.streams.audio[0]):
            file.seek(file.duration - 5_000_000)
            ends.append(max(packet.pts * packet.time_base for packet in file.demux(stream) if packet.pts is not None))
    return ends[0], ends[1]


def in_use() -> tuple[float, int, int]:
    """Resident MB, threads, open files."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return resident, len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    minutes = parser.parse_args().minutes
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_loop(folder / "loop.mp4")
        repeat(folder / "loop.mp4", folder / "source.mp4", minutes)
        models = Models(MarkedDetector(), MirrorRestorer(crop_px=128))
        begin_s = time.perf_counter()
        print("| minute | resident, MB | threads | open files | seconds |", flush=True)
        print("|---|---|---|---|---|", flush=True)

        def tell(_done: RestoredFrame, report: Report) -> None:
            minute, within = divmod(report.num_frames, RATE_HZ * 60)
            if within == 0 and (minute == 1 or minute % 10 == 0):
                resident, threads, files = in_use()
                took_s = time.perf_counter() - begin_s
                print(f"| {minute} | {resident:.0f} | {threads} | {files} | {took_s:.0f} |", flush=True)

        before = in_use()
        options = Options(device="cpu", preset="ultrafast", faces=folder / "faces.json")
        report = restore_video(folder / "source.mp4", folder / "out.mp4", options, models=models, on_frame=tell)
        after = in_use()
        print(f"before: {before[1]} threads, {before[2]} files; after: {after[1]} threads, {after[2]} files")
        ends = ends_s(folder / "source.mp4"), ends_s(folder / "out.mp4")
        moved_ms = [float(out - source) * 1000 for source, out in zip(*ends, strict=True)]
        print(f"the last picture is {moved_ms[0]:g} ms off, the last sound {moved_ms[1]:g} ms")
        print(
            f"{report.num_frames} frames, {report.num_faces_restored} faces, {report.num_tracks} tracks; "
            f"warnings: {report.warnings}"
        )


if __name__ == "__main__":
    main()
