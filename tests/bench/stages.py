"""Seconds per stage for a clip: python tests/bench/stages.py CLIP [vidrestore options]"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main(clip: Path, options: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / f"out{clip.suffix}"
        command = [sys.executable, "-m", "vidrestore", "restore", str(clip), "-o", str(target), "--json", *options]
        report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    frames, faces = report["num_frames"], report["num_faces_restored"]
    print(f"{clip.name}: {frames} frames, {faces} faces, {report['model']}, {report['device']}")
    print("| stage | seconds | ms a frame |\n|---|---|---|")
    for stage, seconds in report["seconds_per_stage"].items():
        print(f"| {stage} | {seconds:.2f} | {1000 * seconds / frames:.1f} |")
    print(f"| whole run | {report['seconds_total']:.2f} | {1000 * report['seconds_total'] / frames:.1f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
