"""Seconds from the start of the process to the first frame written: python tests/bench/startup.py CLIP

What `vidrestore restore CLIP` does until then, with the embedded models on the CPU, three times, each in a process of
its own; printed is the fastest, by phases. Stages before the first frame overlap: decoding runs beside the rest. The
frames that the tracker's lag and the first batch hold back count towards detection and restoration.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3

CHILD = """
import json, sys, time
start_s, clip, target = float(sys.argv[1]), sys.argv[2], sys.argv[3]
marks = {}
def mark(name):
    marks[name] = time.time() - start_s - sum(marks.values())
import vidrestore.cli
vidrestore.cli.keep_freed_memory()
mark("interpreter and command line")
import torch
mark("import torch")
from vidrestore.pipeline import restore_video
from vidrestore.options import Options
mark("import the rest")
class Done(Exception):
    pass
def stop(done, report):
    mark("first frame")
    cpu_s = time.process_time()
    print(json.dumps({"marks": marks, "stages": report.seconds_per_stage, "cpu_s": cpu_s}), flush=True)
    raise Done
try:
    restore_video(clip, target, Options(device="cpu", model="gpen-lite-256", detector="retinaface-lite"), on_frame=stop)
except Done:
    pass
"""


def first_frame(clip: str, folder: str) -> tuple[float, dict[str, float], float]:
    """Seconds in all, by phases, and of the processor."""
    target = str(Path(folder) / f"out{Path(clip).suffix}")
    command = [sys.executable, "-c", CHILD, str(time.time()), clip, target]
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    phases = dict(done["marks"])
    total_s = sum(phases.values())
    rest_s = phases.pop("first frame")
    stages = {name: seconds for name, seconds in done["stages"].items() if seconds >= 0.005}
    phases["run to the first frame"] = rest_s
    return total_s, {**phases, **{f"of these: {name}": seconds for name, seconds in stages.items()}}, done["cpu_s"]


def main(clip: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rounds = [first_frame(clip, folder) for _ in range(ROUNDS)]
    total_s, phases, cpu_s = min(rounds, key=lambda one: one[0])
    print(f"{Path(clip).name}: {total_s:.2f} s to the first frame, {cpu_s:.2f} CPU seconds (fastest of {ROUNDS})")
    print("| phase | seconds |\n|---|---|")
    for name, seconds in phases.items():
        print(f"| {name} | {seconds:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1])
