"""A real run killed again and again: python tests/bench/kills.py [--kills 30] [--seed 0] [--clip FILE]

The command is run as a user types it, killed (SIGKILL) at a random moment, typed again, and compared with a run that
nobody disturbed. Segments are of 25 frames instead of 500, so that a short clip has some. Without --clip a made one of
100 frames of 640x480 is restored with the embedded models.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from portrait_clips import moving, noised, write_clip

COMMAND = "from vidrestore import cli, work; work.SEGMENT_FRAMES = 25; cli.main()"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clip", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = arguments.clip or folder / "source.mp4"
        if arguments.clip is None:
            write_clip(source, noised(moving(100, 640, 480, 0.8), 6.0))
        before = sha256(source)
        target = folder / "out.mp4"
        command = [sys.executable, "-c", COMMAND, "restore", str(source), "-o", str(target), "--quiet"]
        command += ["--faces", str(target.with_suffix(".json"))]

        def outputs() -> tuple[str, str]:
            return sha256(target), sha256(target.with_suffix(".json"))

        begin_s = time.perf_counter()
        subprocess.run(command, check=True)
        whole_s = time.perf_counter() - begin_s
        expected = outputs()
        killed = equal = partial = left = 0
        kept_frames = []
        for _ in range(arguments.kills):
            target.unlink()
            target.with_suffix(".json").unlink()
            process = subprocess.Popen(command)
            try:
                process.wait(timeout=rng.uniform(0.0, whole_s))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed += 1
                partial += target.exists() and sha256(target) != expected[0]
            kept_frames.append(25 * len(list(folder.glob("out.mp4.work/segment_000??"))))
            if not target.exists() or (folder / "out.mp4.work").exists():  # else the kill came when all was done
                subprocess.run(command, check=True)
            equal += outputs() == expected
            left += len(list(folder.iterdir())) - (2 if arguments.clip else 3)
        print(f"{arguments.kills} runs of {whole_s:.1f} s, {killed} killed; finished frames found: {kept_frames}")
        print(f"outputs equal to the undisturbed run's: {equal}; partial files at the output's place: {partial}")
        print(f"files left over: {left}; source unchanged: {sha256(source) == before}")


if __name__ == "__main__":
    main()
