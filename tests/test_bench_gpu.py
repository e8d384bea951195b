"""The GPU benchmark runs wherever PyTorch does: it is carried to machines on which nothing else can be installed."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "bench" / "gpu.py"
ABSENT = (
    "av", "click", "decord", "facexlib", "filterpy", "lpips", "matplotlib", "numba", "onnx", "onnxruntime", "PIL",
    "platformdirs", "pooch", "pytest", "requests", "safetensors", "scipy", "skimage", "torchvision", "tqdm",
)  # fmt: skip


def test_it_runs_from_a_bare_checkout_with_torch_numpy_and_opencv_only(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    code = f"import sys, runpy; sys.modules.update(dict.fromkeys({ABSENT!r})); sys.argv = sys.argv[1:]\n"
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    arguments = ["--device", "cpu", "--quick", "--sizes", "16", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-c", code, str(SCRIPT), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["left_out"] == []
    names = {row["network"] for row in result["networks"]}
    assert {"official style, float32", "prepared, float32", "prepared, float16", "prepared, bfloat16"} <= names
    for row in result["networks"]:
        assert "note" not in row, row
        assert row["ms a face"] > 0
        assert row["largest error"] < (1e-3 if row["network"].endswith("32") else 0.2)
        assert math.isfinite(row["mean error"])
    assert {row["way"] for row in result["pipeline"]} == {"stages on the CPU", "all on the device"}
    assert all(row["frames a second"] > 0 for row in result["pipeline"]), result["pipeline"]
    assert "| prepared, float16 |" in done.stdout


def test_the_work_counted_is_that_of_the_released_networks() -> None:
    """17, 274, 342 and 411 GFLOP of convolutions."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from gpu import GpenConfig, network_gflop
    finally:
        sys.path.remove(str(SCRIPT.parent))
    configs = (GpenConfig(256, 1, 0.5), GpenConfig(512), GpenConfig(1024), GpenConfig(2048))
    assert [round(network_gflop(config)) for config in configs] == [17, 274, 342, 411]
