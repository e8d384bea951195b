"""Faces restored by onnxruntime: from our exports and from files of others, in any batch, and as PyTorch does it."""

import json
import logging
import sys
from pathlib import Path

import av
import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.clips import CLIPS
from tests.fakes import FixedDetector, face_at
from tests.onnx_files import noise, tiny_gpen, write_foreign, write_weights
from vidrestore import cli, loading
from vidrestore.errors import OptionsError, OutOfDeviceMemory, RestoreError, WeightsError
from vidrestore.models import export as exporter
from vidrestore.models.backends import onnx_providers, onnx_runtime
from vidrestore.models.backends.onnx_providers import CPU, CUDA, TENSORRT, describe_onnxruntime, providers
from vidrestore.models.backends.onnx_runtime import load_onnx, usable_device
from vidrestore.models.engines import load_restorer
from vidrestore.models.export import export
from vidrestore.models.weights import file_sha256

SIDE_PX = 32


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "tiny.safetensors", tiny_gpen(SIDE_PX))


# ---- Our own files


def test_an_exported_file_knows_what_it_is_and_restores_as_pytorch(
    weights: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    target = tmp_path / "other-name.onnx"
    export(weights, target, dynamic_batch=True)
    restorer, reference = load_restorer(target, device="cpu"), load_restorer(weights, device="cpu")
    spec = restorer.spec
    assert (spec.name, spec.template, spec.crop_px, spec.license) == ("tiny", "tight", SIDE_PX, "none")
    assert restorer.sha256 == file_sha256(target)
    assert (restorer.engine_name, restorer.device_name, restorer.dtype_name) == ("onnx", "cpu", "float32")
    assert reference.engine_name == "pytorch"
    crops = noise(rng, 5, SIDE_PX)
    expected = reference.restore(crops).astype(int)
    assert expected.std() > 20
    difference = np.abs(restorer.restore(crops) - expected)
    assert difference.max() <= 1  # a value at the border of two levels may fall to either
    assert (difference > 0).mean() < 1e-3


def test_a_half_file_says_so_and_is_within_a_level(weights: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    """Measured mean 0.05 of a level."""
    target = tmp_path / "net.onnx"
    export(weights, target, half=True, dynamic_batch=True)
    restorer, crops = load_restorer(target, device="cpu"), noise(rng, 3, SIDE_PX)
    difference = np.abs(restorer.restore(crops) - load_restorer(weights, device="cpu").restore(crops).astype(int))
    assert restorer.dtype_name == "float16"
    assert difference.mean() < 0.3
    with pytest.raises(OptionsError, match=r"--dtype float32: .*net\.onnx computes in float16; leave it at auto"):
        load_restorer(target, device="cpu", dtype="float32")


def test_weights_are_exported_once_and_kept_by_their_hash(
    weights: Path,
    weights_folder: Path,
    rng: np.random.Generator,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, "vidrestore")
    crops = noise(rng, 2, SIDE_PX)
    first = load_restorer(weights, engine="onnx", device="cpu")
    assert "exporting tiny for onnxruntime, this once" in caplog.text
    (kept,) = (weights_folder / "onnx").iterdir()
    assert file_sha256(weights) in kept.name
    assert (first.spec.name, first.spec.template, first.sha256) == ("tiny", "tight", file_sha256(weights))
    monkeypatch.setattr(exporter, "write_onnx", lambda *_, **__: pytest.fail("exported again"))
    again = load_restorer(weights, engine="onnx", device="cpu")
    assert np.array_equal(first.restore(crops), again.restore(crops))
    assert "with CPUExecutionProvider" in caplog.text


def test_other_weights_of_the_same_name_are_exported_anew(weights: Path, weights_folder: Path) -> None:
    load_restorer(weights, engine="onnx", device="cpu")
    write_weights(weights, tiny_gpen(SIDE_PX * 2))
    assert load_restorer(weights, engine="onnx", device="cpu").spec.crop_px == SIDE_PX * 2
    assert len(list((weights_folder / "onnx").iterdir())) == 2


def test_a_kept_file_that_is_damaged_is_made_anew(
    weights: Path, weights_folder: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "vidrestore")
    crops = noise(rng, 1, SIDE_PX)
    first = load_restorer(weights, engine="onnx", device="cpu").restore(crops)
    (kept,) = (weights_folder / "onnx").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    again = load_restorer(weights, engine="onnx", device="cpu").restore(crops)
    assert np.array_equal(first, again)
    assert "it is made anew" in caplog.text


def test_the_video_is_the_one_that_pytorch_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loading, "load_detector", lambda *_, **__: FixedDetector((face_at(128, 88, 140),)))
    source, target = CLIPS["h264"].make(tmp_path), tmp_path / "net.onnx"
    weights = write_weights(tmp_path / "net.safetensors", tiny_gpen(64), template="gpen")
    cli.main(["export", str(weights), "-o", str(target), "--dynamic-batch"])
    videos = []
    for model in (weights, target):
        video = tmp_path / f"{model.suffix[1:]}.mkv"
        cli.main(
            ["restore", str(source), "-o", str(video), "--json", "--model", str(model), "--lossless", "--device", "cpu"]
        )
        videos.append(samples(video))
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [report["engine"] for report in reports] == ["pytorch", "onnx"]
    assert [report["num_faces_restored"] for report in reports] == [12, 12]
    difference = np.abs(videos[0] - videos[1])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    assert (np.abs(videos[0] - samples(source)) > 5).mean() > 0.03  # the network did change the faces


def samples(path: Path) -> np.ndarray:
    """Every sample of every frame, in the file's own format."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray().astype(int) for frame in container.decode(video=0)])


# ---- Files of others


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_fixed_batch_is_looped_over_and_said_once(
    batch: int, tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_foreign(tmp_path / "static.onnx", (batch, 3, SIDE_PX, SIDE_PX))
    restorer = load_restorer(path, device="cpu")
    for count in (1, 3, 5):
        crops = noise(rng, count, SIDE_PX)
        assert np.array_equal(restorer.restore(crops), 255 - crops)
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert f"static.onnx: takes faces only {batch} at a time" in warnings[0]


@pytest.mark.parametrize(
    ("input_shape", "output_shape", "dtype"),
    [
        (("batch", 3, 32, 32), ("batch", 3, 32, 32), TensorProto.FLOAT),
        (("batch", 3, 32, 32), ("b", "c", "h", "w"), TensorProto.FLOAT),
        ((1, 3, 32, 32), (1, 3, 32, 32), TensorProto.FLOAT16),
        (("n", 3, 32, 32), ("n", 3, 32, 32), TensorProto.FLOAT16),
    ],
)
def test_names_and_types_are_read_off_the_file(
    input_shape: tuple[int | str, ...],
    output_shape: tuple[int | str, ...],
    dtype: int,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    path = write_foreign(tmp_path / "GPEN-theirs.onnx", input_shape, output_shape, names=("x.1", "y 2"), dtype=dtype)
    restorer, crops = load_restorer(path, device="cpu"), noise(rng, 3, SIDE_PX)
    assert np.array_equal(restorer.restore(crops), 255 - crops)
    assert (restorer.spec.name, restorer.spec.template, restorer.spec.crop_px) == ("GPEN-theirs", "gpen", SIDE_PX)
    assert restorer.dtype_name == ("float16" if dtype == TensorProto.FLOAT16 else "float32")


STRANGERS = {
    "detector": {"input_shape": (1, 3, 640, 480)},
    "any size": {"input_shape": (1, 3, "height", "width")},
    "grey": {"input_shape": (1, 1, 32, 32)},
    "channels last": {"input_shape": (1, 32, 32, 3)},
    "upscaler": {"input_shape": (1, 3, 32, 32), "output_shape": (1, 3, 64, 64)},
    "classifier": {"input_shape": (1, 3, 32, 32), "output_shape": (1, 1000)},
    "two inputs": {"extra_inputs": 1},
    "float64": {"dtype": TensorProto.DOUBLE},
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_a_file_that_is_no_face_restorer_ends_with_one_line(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = dict(STRANGERS[kind])
    constant = numpy_helper.from_array(np.zeros(1, np.float64 if kind == "float64" else np.float32), "zero")
    if "output_shape" in options or kind == "float64":  # a body whose sizes nothing is known of beforehand
        shape = numpy_helper.from_array(np.array(options.get("output_shape", (1, 3, 32, 32)), np.int64), "shape")
        options |= {
            "body": (helper.make_node("Expand", ["zero", "shape"], ["enhanced"]),),
            "constants": (constant, shape),
        }
    path = write_foreign(tmp_path / "stranger.onnx", **options)
    source = CLIPS["h264"].make(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["restore", str(source), "--model", str(path)])
    error = capfd.readouterr().err
    assert stopped.value.code == 2
    assert error.count("\n") == 1, error
    assert "stranger.onnx: no face restorer (N, 3, S, S) -> (N, 3, S, S): it has img" in error


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "middle"])
def test_a_damaged_file_ends_with_one_line(
    damage: str, weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.onnx"
    export(weights, path)
    data = path.read_bytes()
    middle = b"Conv".join(data.split(b"Conv")[:1] + [b"?"])
    path.write_bytes({"empty": b"", "text": b"hello " * 99, "cut": data[: len(data) // 2], "middle": middle}[damage])
    with pytest.raises(SystemExit) as stopped:
        cli.main(["restore", str(CLIPS["h264"].make(tmp_path)), "--model", str(path)])
    error = capfd.readouterr().err
    assert stopped.value.code == 2
    assert error.count("\n") == 1, error
    assert "net.onnx: damaged" in error


def test_a_file_that_is_absent_or_of_an_unknown_template(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.onnx: no such file"):
        load_restorer(tmp_path / "absent.onnx", device="cpu")
    export(weights, tmp_path / "net.onnx")
    data = (tmp_path / "net.onnx").read_bytes()
    (tmp_path / "net.onnx").write_bytes(data.replace(b"\x05tight", b"\x05loose"))
    with pytest.raises(WeightsError, match="its alignment template 'loose' is none of: gpen, tight"):
        load_restorer(tmp_path / "net.onnx", device="cpu")


def test_pytorch_cannot_run_onnx_files(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"--engine pytorch: cannot run .*\.onnx; use --engine onnx or auto"):
        load_restorer(write_foreign(tmp_path / "net.onnx"), engine="pytorch")


# ---- Failures while restoring


def test_no_memory_left_is_said_so_that_the_batch_can_be_halved(tmp_path: Path) -> None:
    """It wants 90 billion copies of each face."""
    axes = numpy_helper.from_array(np.array([0, 1], np.int64), "axes")
    shape = numpy_helper.from_array(np.array([1, 2**38 // 3, 1, 1, 1, 1], np.int64), "shape")
    body = (
        helper.make_node("Unsqueeze", ["img", "axes"], ["a"]),
        helper.make_node("Expand", ["a", "shape"], ["b"]),
        helper.make_node("ReduceMax", ["b"], ["enhanced"], axes=[0, 1], keepdims=0),
    )
    path = write_foreign(tmp_path / "greedy.onnx", ("N", 3, 32, 32), body=body, constants=(axes, shape))
    with pytest.raises(OutOfDeviceMemory, match=r"greedy: 3 faces at once do not fit into memory \(cpu\)"):
        load_restorer(path, device="cpu").restore(np.zeros((3, SIDE_PX, SIDE_PX, 3), np.uint8))


def test_an_output_that_overflows_pastes_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write_foreign(tmp_path / "net.onnx", ("N", 3, 32, 32), dtype=TensorProto.FLOAT16, factor=6e4)
    body = (
        helper.make_node("Mul", ["img", "factor"], ["a"]),
        helper.make_node("Mul", ["a", "factor"], ["enhanced"]),
    )
    write_foreign(path, ("N", 3, 32, 32), dtype=TensorProto.FLOAT16, factor=6e4, body=body)
    with pytest.raises(RestoreError, match="its output in float16 is not finite"):
        load_restorer(path, device="cpu").restore(noise(rng, 1, SIDE_PX))


def test_a_session_that_fails_is_our_error_in_one_line(tmp_path: Path, rng: np.random.Generator) -> None:
    """Sizes that have names are taken on trust until the first face comes out."""
    shape = numpy_helper.from_array(np.array([-1, 3, 16, 64], np.int64), "shape")
    body = (helper.make_node("Reshape", ["img", "shape"], ["enhanced"]),)
    path = write_foreign(tmp_path / "net.onnx", ("N", 3, 32, 32), ("N", "c", "h", "w"), body=body, constants=(shape,))
    with pytest.raises((RestoreError, WeightsError)) as caught:
        load_restorer(path, device="cpu").restore(noise(rng, 1, SIDE_PX))
    assert "net.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_shapes_are_a_mistake_of_the_caller(tmp_path: Path) -> None:
    restorer = load_restorer(write_foreign(tmp_path / "net.onnx", ("N", 3, 32, 32)), device="cpu")
    with pytest.raises(ValueError, match=r"crops are \(1, 16, 16, 3\) uint8; net takes \(1, 32, 32, 3\) uint8"):
        restorer.restore(np.zeros((1, 16, 16, 3), np.uint8))


# ---- Packages, providers and threads


def test_without_the_package_the_message_says_what_to_install(
    weights: Path,
    weights_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_foreign(tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for arguments in (["--model", str(path)], ["--model", str(weights), "--engine", "onnx"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["restore", str(CLIPS["h264"].make(tmp_path)), *arguments])
        error = capsys.readouterr().err
        assert (stopped.value.code, error.count("\n")) == (2, 1)
        assert "pip install 'vidrestore[onnx]'" in error
    assert not (weights_folder / "onnx").exists()


def test_the_best_provider_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    full = write_foreign(tmp_path / "full.onnx")
    half = write_foreign(tmp_path / "half.onnx", dtype=TensorProto.FLOAT16)
    monkeypatch.setattr(onnx_providers, "_has_tensorrt", lambda: False)
    assert providers(full, None) == [(CPU, {})]
    assert [name for name, _ in providers(full, 1)] == [CUDA, CPU]
    assert providers(full, 1)[0][1]["device_id"] == "1"
    monkeypatch.setattr(onnx_providers, "_has_tensorrt", lambda: True)
    assert [name for name, _ in providers(full, 1)] == [TENSORRT, CUDA, CPU]
    assert [providers(path, 0)[0][1]["trt_fp16_enable"] for path in (full, half)] == ["0", "1"]
    assert not any("profile" in option for option in providers(full, 0)[0][1])
    assert "TensorrtExecutionProvider, CUDAExecutionProvider, CPUExecutionProvider" in describe_onnxruntime()


@pytest.mark.parametrize(("size_px", "largest"), [(256, 64), (512, 16), (1024, 4), (2048, 1)])
def test_tensorrt_makes_one_engine_for_every_batch_up_to_16_faces_of_512(
    size_px: int, largest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without being told the bounds, it would make an engine, for minutes, whenever another number of faces comes."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(onnx_providers, "_has_tensorrt", lambda: True)
    path = write_foreign(tmp_path / "net.onnx", ("N", 3, size_px, size_px))
    name, options = providers(path, 0)[0]
    assert name == TENSORRT
    shapes = {key: value for key, value in options.items() if "profile" in key}
    assert shapes == {
        "trt_profile_min_shapes": f"img:1x3x{size_px}x{size_px}",
        "trt_profile_opt_shapes": f"img:{largest}x3x{size_px}x{size_px}",
        "trt_profile_max_shapes": f"img:{largest}x3x{size_px}x{size_px}",
    }


def test_larger_batches_than_tensorrt_has_an_engine_for_are_split(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_runtime, "TENSORRT", CPU)  # stands in for it
    monkeypatch.setattr(onnx_providers, "TENSORRT_BATCH_PIXELS", 2 * SIDE_PX**2)
    restorer = load_onnx(write_foreign(tmp_path / "net.onnx", ("N", 3, SIDE_PX, SIDE_PX)), device="cpu")
    counts: list[int] = []
    run = restorer.net._run
    monkeypatch.setattr(restorer.net, "_run", lambda x: (counts.append(len(x)), run(x))[1])
    crops = noise(rng, 5, SIDE_PX)
    assert np.array_equal(restorer.restore(crops), 255 - crops)
    assert counts == [2, 2, 1]


def test_a_gpu_without_its_provider_is_refused_or_replaced_by_the_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnx_runtime, "resolve_device", lambda text: torch.device("cuda", 0))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(OptionsError, match="--device cuda: this onnxruntime has no CUDAExecutionProvider; install"):
        usable_device("cuda")
    assert usable_device("auto") == torch.device("cpu")
    assert "it computes on the CPU; install onnxruntime-gpu" in caplog.text
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    assert usable_device("auto") == torch.device("cuda", 0)


def test_as_many_threads_as_pytorch_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = onnxruntime.InferenceSession

    def record(path: Path, options: onnxruntime.SessionOptions, **keywords: object) -> onnxruntime.InferenceSession:
        seen.append(options.intra_op_num_threads)
        return real(path, options, **keywords)

    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    load_onnx(write_foreign(tmp_path / "net.onnx"), device="cpu")
    assert seen == [3]


@pytest.mark.needs_cuda
@pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="onnxruntime has no CUDA provider")
@pytest.mark.parametrize(("half", "mean_levels"), [(False, 0.1), (True, 1.0)])
def test_the_gpu_gives_what_the_cpu_gives(
    half: bool, mean_levels: float, weights: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    export(weights, tmp_path / "net.onnx", half=half, dynamic_batch=True)
    crops = noise(rng, 5, SIDE_PX)
    expected = load_restorer(weights, device="cpu").restore(crops).astype(int)
    result = load_restorer(tmp_path / "net.onnx", device="cuda").restore(crops)
    assert np.abs(result - expected).mean() < mean_levels
