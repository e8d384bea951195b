"""What keeping freed memory gains: python tests/bench/freed_memory.py

Restores 8 crops at once with the embedded restorer, with and without `keep_freed_memory`, in processes of their own,
alternating; prints the least of 3 for each: milliseconds, those of the processor, and fresh pages (of 4 KiB), per face.
The last two hardly depend on what else the machine does.
"""

import json
import subprocess
import sys

CHILD = """
import json, resource, sys, time
import numpy as np
from vidrestore.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
from vidrestore.models.backends.pytorch import load_restorer
restorer = load_restorer("gpen-lite-256", device="cpu")
crops = np.random.default_rng(0).integers(0, 256, (8, 256, 256, 3)).astype(np.uint8)
restorer.restore(crops)
def spent():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter() * 1000, (usage.ru_utime + usage.ru_stime) * 1000, usage.ru_minflt
begin = spent()
for _ in range(5):
    restorer.restore(crops)
print(json.dumps([(end - start) / 40 for start, end in zip(begin, spent())]))
"""


def main() -> None:
    least: dict[str, list[float]] = {}
    for _ in range(3):
        for how in ("default", "kept"):
            done = subprocess.run([sys.executable, "-c", CHILD, how], check=True, capture_output=True, text=True)
            figures = json.loads(done.stdout)
            least[how] = [min(pair) for pair in zip(least.get(how, figures), figures, strict=True)]
    for how, (wall_ms, cpu_ms, pages) in least.items():
        print(f"{how}: {wall_ms:.0f} ms, {cpu_ms:.0f} CPU ms, {pages:.0f} fresh pages a face")


if __name__ == "__main__":
    main()
