"""Peak memory against the length of the input: python tests/bench/memory.py CLIP MINUTES [MINUTES ...]

The clip's packets are repeated until the input is that long; each run is a process of its own, whose largest resident
size is printed.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import av


def loop(clip: Path, target: Path, minutes: float) -> None:
    """Repeat the first video stream by packet copy."""
    with av.open(str(target), "w") as output:
        stream = None
        offset = 0
        while True:
            with av.open(str(clip)) as source:
                template = source.streams.video[0]
                stream = stream or output.add_stream_from_template(template)
                last = 0
                for packet in source.demux(template):
                    if packet.dts is None or packet.pts is None:
                        continue
                    last = max(last, packet.pts + (packet.duration or 1))
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    packet.stream = stream
                    output.mux(packet)
                offset += last
                if offset * template.time_base >= minutes * 60:
                    return


def peak_mb(clip: Path, folder: Path) -> float:
    command = [sys.executable, "-m", "vidrestore", "restore", str(clip), "-o", str(folder / "out.mp4")]
    child = subprocess.Popen([*command, "--overwrite", "--quiet", "--preset", "ultrafast"])
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, "the run failed"
    return usage.ru_maxrss / 1024


def main(clip: Path, lengths: list[float]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for minutes in lengths:
            looped = folder / f"looped{clip.suffix}"
            loop(clip, looped, minutes)
            print(f"{minutes:g} min: peak {peak_mb(looped, folder):.0f} MB", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [float(minutes) for minutes in sys.argv[2:]])
