"""`vidrestore bench` names everything that this machine can run a model with, counts honestly, and ends with advice."""

import importlib.metadata
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.clips import CLIPS
from tests.onnx_files import tiny_gpen, write_foreign, write_weights
from vidrestore import cli
from vidrestore.bench import run, variants
from vidrestore.bench.ceiling import ceiling_gflops, hardware_dtypes
from vidrestore.bench.clip import limiting_stage
from vidrestore.bench.result import BenchResult, ModelResult, Timing
from vidrestore.bench.table import table
from vidrestore.bench.variants import Variant, face_crops, timings
from vidrestore.bench.work import gpen_flop
from vidrestore.errors import OutOfDeviceMemory, WeightsError
from vidrestore.models.gpen import GpenConfig
from vidrestore.models.spec import ModelSpec

CPU = torch.device("cpu")
SPEC = ModelSpec("tiny", "restorer", "", None, None, None, "", "", 64, "gpen")


@pytest.fixture
def weights(tmp_path: Path, weights_folder: Path) -> Path:
    """Of a network that takes no time; what is exported on the way lands in a folder of the test."""
    return write_weights(tmp_path / "tiny.safetensors", tiny_gpen(64), template="gpen")


@pytest.fixture(autouse=True)
def _nothing_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "SETTLING_SHARE", 0.0)
    monkeypatch.setattr("vidrestore.bench.ceiling.CHANNELS", 64)


@pytest.mark.parametrize(
    ("config", "gflop"),
    [
        (GpenConfig(256, 1, 0.5), 17.4),
        (GpenConfig(512), 276),
        (GpenConfig(1024), 347),
        (GpenConfig(2048), 420),
    ],
)
def test_the_work_of_the_released_networks_is_the_known_one(config: GpenConfig, gflop: float) -> None:
    assert float(f"{gpen_flop(config) / 1e9:.3g}") == gflop


def test_one_object_of_json_has_every_engine_and_precision(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "QUICK_BUDGET_S", 60.0)  # all of it, also where other programs take the cores
    cli.main(["bench", str(CLIPS["h264"].make(tmp_path)), "--quick", "--json", "--model", str(weights)])
    result = json.loads(capsys.readouterr().out)
    (model,) = result["models"]
    there = {(row["engine"], row["dtype"], row["batch_size"]) for row in model["timings"]}
    wanted = {("pytorch", dtype, batch) for dtype in hardware_dtypes(CPU) for batch in (1, 4)}
    wanted |= {("onnx", "float32", batch) for batch in (1, 4)}
    assert there == wanted
    assert model["skipped"] == []
    assert {row["provider"] for row in model["timings"] if row["engine"] == "onnx"} == {"CPUExecutionProvider"}
    for row in model["timings"]:
        assert row["largest_error_levels"] <= (1 if row["dtype"] == "float32" else 12)
        assert row["ms_a_face"] > 0
        assert row["gflops"] == pytest.approx(model["gflop"] / row["ms_a_face"] * 1000)
        assert row["memory_mb"] is None
    assert model["gflop"] == pytest.approx(gpen_flop(tiny_gpen(64).config) / 1e9)
    assert set(result["ceiling_gflops"]) == set(hardware_dtypes(CPU))
    assert result["versions"]["torch"] == importlib.metadata.version("torch")
    assert model["clip"]["num_frames"] == 10
    assert {"decode", "detect", "paste", "encode"} <= set(model["clip"]["seconds_a_frame"])
    assert model["flags"].startswith(f"--model {weights} --engine ")
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".mkv" and "restored" in path.name]


def test_the_table_ends_with_the_flags_to_use(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a clip, on a made one that has a face in every frame."""
    monkeypatch.setattr(variants, "hardware_dtypes", lambda device: ["float32"])
    cli.main(["bench", "--quick", "--model", str(weights)])
    lines = capsys.readouterr().out.splitlines()
    assert any(re.search(r"\b(10|12) frames, \1 faces", line) for line in lines)  # in whole batches of 1 or 4
    assert any("frames/s" in line and "is what limits it" in line for line in lines)
    assert lines[-1].startswith(f"--model {weights} --engine ")
    assert "--dtype float32 --batch-size " in lines[-1]


def test_an_onnx_file_is_run_as_it_is(tmp_path: Path, weights_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_foreign(tmp_path / "net.onnx", (1, 3, 32, 32))
    cli.main(["bench", str(CLIPS["h264"].make(tmp_path)), "--quick", "--json", "--model", str(path)])
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert (model["crop_px"], model["gflop"]) == (32, None)
    assert {(row["engine"], row["largest_error_levels"]) for row in model["timings"]} == {("onnx", None)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "absent.safetensors"], "absent.safetensors: neither a file nor a model's name"),
        (["--model", "absent.onnx"], "absent.onnx: no such file"),
        (["--model", "damaged.onnx"], "damaged.onnx: damaged"),
        (["--model", "retinaface-lite"], "not a restorer but a detector"),
        (["--model", "gpen-bfr-512"], "vidrestore models pull gpen-bfr-512"),
        (["absent.mp4"], "absent.mp4: no such file"),
        (["--device", "tpu"], "--device tpu: must be auto, cpu, cuda or cuda:N"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    weights_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("damaged.onnx").write_bytes(b"no ONNX file")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "--quick", *arguments])
    output = capsys.readouterr()
    assert (stopped.value.code, output.err.count("\n"), output.out) == (2, 1, "")
    assert message in output.err


def test_an_engine_that_is_not_installed_or_cannot_keep_its_file_is_left_out_with_the_reason(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skipped: list[str] = []
    monkeypatch.setattr(variants, "missing_packages", lambda: ["onnxruntime"])
    _, found = variants.measured(str(weights), CPU, deadline_s=time.monotonic() + 60, skipped=skipped)
    assert {variant.engine for variant in found} == {"pytorch"}
    assert skipped == ["onnx: onnxruntime not installed (pip install 'vidrestore[onnx]')"]
    monkeypatch.undo()
    monkeypatch.setattr(variants, "SETTLING_SHARE", 0.0)
    monkeypatch.setenv("VIDRESTORE_WEIGHTS", str(weights))  # a file where a folder is wanted
    skipped.clear()
    _, found = variants.measured(str(weights), CPU, deadline_s=time.monotonic() + 60, skipped=skipped)
    assert {variant.engine for variant in found} == {"pytorch"}
    assert len(skipped) == 1
    assert skipped[0].startswith("onnx in float32: ")


class Darkening:
    """A restorer whose results are `levels` too dark."""

    device_name, sha256, spec = "cpu", "", SPEC

    def __init__(self, levels: int, *, engine: str = "pytorch", dtype: str = "float32") -> None:
        self.levels, self.engine_name, self.dtype_name = levels, engine, dtype

    def restore(self, crops: np.ndarray) -> np.ndarray:
        return np.full_like(crops, 100 - self.levels)


def variant(restorer: Darkening, count: int, seconds: float) -> Variant:
    crops = face_crops(64, count)
    return Variant(restorer.engine_name, restorer, crops, restorer.restore(crops), None, seconds)


def test_speed_share_and_error_of_a_row() -> None:
    """Four faces of 2 GFLOP in 2 s are 4 GFLOP/s, half of a ceiling of 8."""
    rows = timings(
        [variant(Darkening(0), 1, 1.0), variant(Darkening(3, dtype="bfloat16"), 4, 2.0)], 2.0, {"bfloat16": 8.0}
    )
    assert (rows[0].ms_a_face, rows[0].gflops, rows[0].share_of_ceiling) == (1000, 2, None)
    assert (rows[1].ms_a_face, rows[1].gflops, rows[1].share_of_ceiling) == (500, 4, 0.5)
    assert (rows[1].largest_error_levels, rows[1].mean_error_levels) == (3, 3.0)


def test_a_lower_precision_is_recommended_with_what_it_changes() -> None:
    exact = Timing("pytorch", "cpu", "float32", 1, 300.0, None, None, 0, 0.0, None)
    faster = Timing("pytorch", "cpu", "bfloat16", 4, 100.0, None, None, 5, 0.4, None)
    model = ModelResult("m", 64, None, (exact, faster), ("why not",), faster, exact, None)
    lines = table(BenchResult("cpu", "a processor", 2, {}, {"float32": 100.0}, (model,), 1.0)).splitlines()
    assert lines[-1].startswith("--model m --engine pytorch --dtype bfloat16 --batch-size 4  (differs from float32")
    assert "up to 5 levels of 255, 0.40 on average" in lines[-1]
    assert "--engine pytorch --dtype float32 takes 3.0 times as long" in lines[-1]
    assert any("skipped: why not" in line for line in lines)


def test_the_limiting_stage_is_in_the_lane_that_the_others_wait_for() -> None:
    """Encoding is the longest stage, but detecting and restoring share a thread."""
    assert limiting_stage({"decode": 1, "detect": 3, "restore": 4, "encode": 5}) == "restore"
    assert limiting_stage({"decode": 1, "detect": 1, "restore": 2, "encode": 5}) == "encode"


def test_a_gpu_is_a_lane_of_its_own_and_nobody_is_blamed_for_waiting_for_it() -> None:
    stages = {"decode": 2, "detect": 3, "align": 0.5, "restore": 2, "paste": 1, "encode": 2.5, "load models": 9}
    assert limiting_stage(stages) == "detect"  # all but decode and encode in one thread
    assert limiting_stage(stages | {"wait for device": 0.4}) == "restore"  # 3.5 there, 3 in the thread
    assert limiting_stage(stages | {"wait for device": 9, "detect": 4}) == "detect"
    assert limiting_stage(stages | {"wait for device": 9, "encode": 4}) == "encode"


class Scripted:
    """A restorer that fails as told; `calls` are the sizes of its batches."""

    device_name, sha256, spec, engine_name = "cuda:0", "", SPEC, "pytorch"

    def __init__(self, dtype: str, fails: Callable[[list[int]], Exception | None]) -> None:
        self.dtype_name, self.fails = dtype, fails
        self.calls: list[int] = []

    def restore(self, crops: np.ndarray) -> np.ndarray:
        self.calls.append(len(crops))
        if (error := self.fails(self.calls)) is not None:
            raise error
        return crops


def measured_with(
    monkeypatch: pytest.MonkeyPatch, device: str, restorers: dict[str, Scripted | Exception]
) -> tuple[list[tuple[str, int]], list[str]]:
    """What was measured of these restorers, by dtype and batch size, and what was skipped."""

    def load(model: str, *, engine: str, device: str, dtype: str) -> Scripted:
        found = restorers[dtype]
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(variants, "engines_and_dtypes", lambda model, device: [("pytorch", name) for name in restorers])
    monkeypatch.setattr(variants, "missing_packages", lambda: [])
    monkeypatch.setattr(variants, "_start_of_memory", lambda device: None)
    monkeypatch.setattr(variants, "load_restorer", load)
    skipped: list[str] = []
    deadline_s = time.monotonic() + 60
    _, found = variants.measured("m", torch.device(device), deadline_s=deadline_s, skipped=skipped)
    assert all(variant.fastest_s < float("inf") for variant in found)
    return [(variant.restorer.dtype_name, len(variant.crops)) for variant in found], skipped


def test_on_a_gpu_the_run_without_a_graph_and_the_recording_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one batch size is done with before the next begins, so that its graph need not stay."""
    restorer = Scripted("float32", lambda calls: None)
    warmed_up: list[tuple[int, int]] = []
    run_once = Variant.run

    def run_(self: Variant) -> np.ndarray:
        if self.fastest_s == float("inf"):
            warmed_up.append((len(self.crops), restorer.calls.count(len(self.crops))))
        return run_once(self)

    monkeypatch.setattr(Variant, "run", run_)
    there, skipped = measured_with(monkeypatch, "cuda", {"float32": restorer})
    assert there == [("float32", 1), ("float32", 4), ("float32", 16)]
    assert skipped == []
    assert warmed_up == [(1, 3), (4, 3), (16, 3)]
    assert restorer.calls == [1] * 6 + [4] * 6 + [16] * 6


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_runs_out_of_memory_is_skipped_with_the_reason_and_the_rest_is_kept(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """While it is loaded, warmed up or measured."""

    def late(calls: list[int]) -> Exception | None:
        return OutOfDeviceMemory("4 faces at once do not fit") if calls.count(4) == 5 else None

    def early(calls: list[int]) -> Exception | None:
        return torch.OutOfMemoryError("CUDA out of memory.\nTried ...") if calls[-1] == 4 else None

    restorers: dict[str, Scripted | Exception] = {
        "float32": Scripted("float32", late if device == "cuda" else lambda calls: late([*calls, 4])),
        "bfloat16": Scripted("bfloat16", early),
        "float16": WeightsError("m: damaged"),
    }
    monkeypatch.setitem(variants.BATCH_SIZES, device, (1, 4))
    there, skipped = measured_with(monkeypatch, device, restorers)
    assert there == [("float32", 1), ("bfloat16", 1)]
    assert sorted(skipped) == [
        "pytorch in bfloat16, batch of 4: CUDA out of memory.",
        "pytorch in float16: m: damaged",
        "pytorch in float32, batch of 4: 4 faces at once do not fit",
    ]


def test_crops_are_a_face_and_always_the_same() -> None:
    crops = face_crops(64, 3)
    assert (crops.shape, crops.dtype) == ((3, 64, 64, 3), np.uint8)
    assert np.array_equal(crops[:2], face_crops(64, 2))
    assert crops[0].std() > 40
    assert not np.array_equal(crops[0], crops[1])


def test_a_ceiling_is_measured_in_every_precision_of_the_hardware() -> None:
    for dtype in hardware_dtypes(CPU):
        assert ceiling_gflops(CPU, getattr(torch, dtype)) > 0
