"""What keeping freed memory gains: python tests/bench/freed_memory.py

Restores 8 crops at once with the embedded restorer, with and without `keep_freed_memory`, in processes of their own,
alternating; prints the fastest of 3 for each.
"""

import subprocess
import sys

CHILD = """
import sys, time
import numpy as np
from vidrestore.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
from vidrestore.models.backends.pytorch import load_restorer
restorer = load_restorer("gpen-lite-256", device="cpu")
crops = np.random.default_rng(0).integers(0, 256, (8, 256, 256, 3)).astype(np.uint8)
restorer.restore(crops)
start_s = time.perf_counter()
for _ in range(5):
    restorer.restore(crops)
print((time.perf_counter() - start_s) / 40 * 1000)
"""


def main() -> None:
    fastest_ms: dict[str, float] = {}
    for _ in range(3):
        for how in ("default", "kept"):
            done = subprocess.run([sys.executable, "-c", CHILD, how], check=True, capture_output=True, text=True)
            fastest_ms[how] = min(fastest_ms.get(how, 1e9), float(done.stdout))
    print(f"default {fastest_ms['default']:.0f} ms a face, freed memory kept {fastest_ms['kept']:.0f} ms a face")


if __name__ == "__main__":
    main()
