import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vidrestore import cli
from vidrestore.errors import OptionsError, OutOfDeviceMemory, RestoreError, WeightsError
from vidrestore.models.backends import pytorch
from vidrestore.models.backends.cuda_graphs import GraphedNet, Net, Recording
from vidrestore.models.backends.pytorch import (
    PytorchRestorer,
    load_detector,
    load_gpen,
    load_restorer,
    network_for_cpu,
    network_for_cuda,
    resolve_device,
    resolve_dtype,
)
from vidrestore.models.catalog import spec_of
from vidrestore.models.gpen import Gpen, GpenConfig
from vidrestore.models.memory import is_out_of_memory
from vidrestore.models.prepared import PreparedGpen
from vidrestore.models.spec import ModelSpec
from vidrestore.report import Report
from vidrestore.stages.restore import Batcher

SIDE_PX = 32
CPU = torch.device("cpu")
SPEC = ModelSpec("test", "restorer", "none", None, None, None, "none", "tests", SIDE_PX, "gpen")


def restorer_of(net: nn.Module, dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> PytorchRestorer:
    net = PreparedGpen(net, dtype) if isinstance(net, Gpen) else net
    return PytorchRestorer(net, spec=SPEC, sha256="0" * 64, device=device, dtype=dtype)


def tiny_gpen() -> Gpen:
    """Random, but with outputs that use the range of 8 bits and depend on the input."""
    torch.manual_seed(0)
    net = Gpen(GpenConfig(SIDE_PX, 1, 1 / 32, style_dim=32, num_mapping_layers=2))
    for name, parameter in net.named_parameters():
        if name.endswith("noise.weight"):
            torch.nn.init.constant_(parameter, 0.5)
    for level in net.generator.to_rgbs:
        with torch.no_grad():
            level.conv.weight.mul_(0.3)
    return net.eval()


def random_crops(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 256, (count, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)


class Function(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)  # type: ignore[operator]


def test_all_256_levels_pass_through_unchanged() -> None:
    levels = np.arange(SIDE_PX * SIDE_PX * 3, dtype=np.uint8).reshape(1, SIDE_PX, SIDE_PX, 3)
    assert np.array_equal(restorer_of(nn.Identity()).restore(levels), levels)
    assert np.array_equal(restorer_of(nn.Identity(), torch.float16).restore(levels), levels)


def test_the_network_sees_rgb_from_minus_1_to_1_in_nchw() -> None:
    seen: list[Tensor] = []
    crops = np.zeros((2, SIDE_PX, SIDE_PX, 3), np.uint8)
    crops[0, :, :, 0] = 255  # red
    crops[1, 3, 5, 2] = 255  # one blue pixel at x 5, y 3
    restorer_of(Function(lambda x: seen.append(x) or x)).restore(crops)
    assert seen[0].shape == (2, 3, SIDE_PX, SIDE_PX)
    assert seen[0][0].amin(dim=(1, 2)).tolist() == [1, -1, -1]
    assert seen[0][1, 2, 3, 5] == 1
    assert seen[0][1].sum() == 2 - 3 * SIDE_PX**2


@pytest.mark.parametrize(("shift_levels", "level"), [(0.4, 100), (0.6, 101), (-0.4, 100), (-0.6, 99), (999, 255)])
def test_results_are_rounded_and_clamped_not_cut(shift_levels: float, level: int) -> None:
    crops = np.full((1, SIDE_PX, SIDE_PX, 3), 100, np.uint8)
    restored = restorer_of(Function(lambda x: x + shift_levels / 127.5)).restore(crops)
    assert np.unique(restored).tolist() == [level]


def test_a_face_comes_out_the_same_in_any_batch(rng: np.random.Generator) -> None:
    restorer, crops = restorer_of(tiny_gpen()), random_crops(rng, 9)
    alone = np.concatenate([restorer.restore(crops[i : i + 1]) for i in range(9)])
    assert alone.std() > 20  # the network does something
    for size in range(1, 10):
        difference = np.abs(restorer.restore(crops[:size]).astype(int) - alone[:size])
        assert difference.max() <= 1  # a value at the border of two levels may fall to either
        assert (difference > 0).mean() < 1e-3


def test_half_precision_is_within_a_few_levels_of_float32(rng: np.random.Generator) -> None:
    """And float16 is why "auto" prefers it on a GPU: three more bits, an eighth of the error."""
    crops = random_crops(rng, 4)
    full = restorer_of(tiny_gpen()).restore(crops).astype(int)
    errors = {
        dtype: np.abs(restorer_of(tiny_gpen(), dtype).restore(crops) - full).mean()
        for dtype in (torch.bfloat16, torch.float16)
    }
    assert errors[torch.bfloat16] < 2
    assert errors[torch.float16] < 0.25


def test_crops_are_not_written_to(rng: np.random.Generator) -> None:
    crops = random_crops(rng, 2)
    crops.setflags(write=False)
    before = crops.copy()
    result = restorer_of(Function(lambda x: x.neg_())).restore(crops)
    assert np.array_equal(crops, before)
    assert np.array_equal(result, 255 - crops)


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((0, SIDE_PX, SIDE_PX, 3), np.uint8),
        np.zeros((1, 16, 16, 3), np.uint8),
        np.zeros((1, SIDE_PX, SIDE_PX, 3), np.float32),
        np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8),
    ],
)
def test_other_shapes_are_a_mistake_of_the_caller(crops: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"crops are .*; test takes \(\d+, 32, 32, 3\) uint8"):
        restorer_of(nn.Identity()).restore(crops)


def test_a_network_that_overflows_pastes_nothing() -> None:
    with pytest.raises(RestoreError, match=r"its output in float16 is not finite; use --dtype float32"):
        restorer_of(Function(lambda x: x.half() * 1e6), torch.float16).restore(
            np.zeros((1, SIDE_PX, SIDE_PX, 3), np.uint8)
        )


def test_no_memory_left_is_said_so_that_the_batch_can_be_halved() -> None:
    greedy = Function(lambda x: torch.empty(len(x), 2**55))
    with pytest.raises(OutOfDeviceMemory, match=r"test: 3 faces at once do not fit into memory \(cpu\)"):
        restorer_of(greedy).restore(np.zeros((3, SIDE_PX, SIDE_PX, 3), np.uint8))


def test_memory_that_cuda_graphs_hold_is_for_faces_when_it_is_short(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "vidrestore")
    held: list[Recording] = []

    def record(net: Net, x: Tensor) -> Recording:
        held.append(Recording(x.clone(), tuple(torch.empty_like(y) for y in net(x)), lambda: None))
        return held[-1]

    def restored(crops: Tensor) -> tuple[Tensor, Tensor]:
        if len(crops) > 2 and restorer._graphed._recordings:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 255 - crops, torch.tensor(True)

    restorer = restorer_of(nn.Identity())
    restorer._graphed = GraphedNet(restored, record=record)
    crops = torch.zeros(4, SIDE_PX, SIDE_PX, 3, dtype=torch.uint8)
    for count in (2, 2, 4):
        levels, _ = restorer.within_memory(lambda n=count: restorer.restore_tensor(crops[:n]), num_faces=count)
    assert len(held) == 1
    assert torch.equal(levels, 255 - crops)
    assert "without CUDA graphs" in caplog.text


def test_other_errors_of_the_network_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="size of tensor"):
        restorer_of(Function(lambda x: x + torch.zeros(7))).restore(np.zeros((1, SIDE_PX, SIDE_PX, 3), np.uint8))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError("Unable to allocate 1.00 EiB"))  # NumPy's
    assert not is_out_of_memory(RuntimeError("size of tensor"))


def test_a_batch_is_halved_when_numpy_has_no_memory(rng: np.random.Generator) -> None:
    """As in the threads of Winograd convolutions."""

    def forward(x: Tensor) -> Tensor:
        if len(x) > 2:
            np.empty((len(x), 2**50), np.float32)
        return x

    report, crops = Report("", ""), random_crops(rng, 8)
    restored = Batcher(restorer_of(Function(forward)), report, batch_size=8).restore(crops)
    assert np.array_equal(restored, crops)
    assert report.warnings == [f"out of memory: going on with a batch size of {size}" for size in (4, 2)]


def test_graphs_that_were_given_back_are_recorded_anew() -> None:
    recorded: list[int] = []

    def record(net: Net, x: Tensor) -> Recording:
        recorded.append(len(x))
        return Recording(x.clone(), net(x), lambda: None)

    restorer = PytorchRestorer(nn.Identity(), spec=SPEC, sha256="", device=CPU, dtype=torch.float32, graphs=True)
    crops = torch.zeros(2, SIDE_PX, SIDE_PX, 3, dtype=torch.uint8)
    for _ in range(2):
        assert restorer._graphed is not None
        restorer._graphed._record = record
        for _ in range(3):
            restorer.restore_tensor(crops)
        restorer.release_graphs()
    assert recorded == [2, 2]


# ---- Devices and precision


def test_devices_that_are_not_there_are_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == CPU
    for text in ("cuda", "cuda:0", "cuda:3"):
        with pytest.raises(OptionsError, match=f"--device {text}: not on this machine, which has: cpu"):
            resolve_device(text)


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:x", "CPU", "", "cuda:-1"])
def test_words_that_are_no_device_are_refused(text: str) -> None:
    with pytest.raises(OptionsError, match="must be auto, cpu, cuda or cuda:N"):
        resolve_device(text)


def test_one_of_several_gpus_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(OptionsError, match=r"which has: cpu, cuda:0 \(GPU 0\), cuda:1 \(GPU 1\)"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("capability", "half_ok", "dtype"),
    [
        ((9, 0), True, torch.float16),
        ((8, 0), False, torch.bfloat16),
        ((7, 5), True, torch.float16),
        ((7, 5), False, torch.float32),
        ((6, 1), True, torch.float32),
    ],
)
def test_auto_precision_is_what_the_gpu_does_fast_and_the_model_bears(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], half_ok: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    spec = ModelSpec("x", "restorer", "", None, None, None, "", "", SIDE_PX, "gpen", half_ok)
    assert resolve_dtype("auto", torch.device("cuda", 0), spec) == dtype


def test_precision_on_a_cpu_is_full_unless_asked_otherwise() -> None:
    assert resolve_dtype("auto", CPU, SPEC) == torch.float32
    assert resolve_dtype("bfloat16", CPU, SPEC) == torch.bfloat16
    with pytest.raises(OptionsError, match="--dtype half: must be auto, float32, bfloat16, float16"):
        resolve_dtype("half", CPU, SPEC)
    fragile = ModelSpec("fragile", "restorer", "", None, None, None, "", "", SIDE_PX, "gpen", half_ok=False)
    with pytest.raises(OptionsError, match="--dtype float16: fragile overflows in it"):
        resolve_dtype("float16", CPU, fragile)


def test_without_triton_the_gpu_computes_the_same_in_more_steps(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "vidrestore")
    net = network_for_cuda(tiny_gpen(), torch.float32, CPU)  # where Triton has nothing to compile for
    assert isinstance(net, PreparedGpen)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "Triton does not work here, so faces take longer"
    ]


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), RuntimeError("damaged\nindex"), ImportError()]
)
def test_where_numba_fails_the_cpu_computes_the_same_without_it(
    failure: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk, a damaged file in its cache, a NumPy that is newer than itself."""
    from vidrestore.models import winograd

    net = Gpen(GpenConfig(128, 2, 1 / 4, style_dim=32, num_mapping_layers=2)).eval()
    faces = torch.rand(1, 3, 128, 128) * 2 - 1
    with torch.inference_mode():
        fast = network_for_cpu(net, torch.float32)
        assert any(conv.is_winograd for conv in fast.convs)
        assert caplog.records == []

        def fail(dtype: torch.dtype) -> None:
            raise failure

        monkeypatch.setattr(winograd, "try_out", fail)
        plain = network_for_cpu(net, torch.float32)
        assert not any(conv.is_winograd for conv in plain.convs)
        torch.testing.assert_close(plain(faces), fast(faces), atol=1e-4, rtol=0)
    (record,) = caplog.records
    assert record.getMessage().startswith("numba does not work here, so faces take longer: ")
    assert "\n" not in record.getMessage()
    assert not record.getMessage().endswith(": ")


def test_a_small_network_does_not_wait_for_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidrestore.models.winograd.try_out", lambda dtype: pytest.fail("tried out"))
    network_for_cpu(tiny_gpen(), torch.float32)


class Largest(TorchDispatchMode):
    """Remembers the largest value of any picture that was computed."""

    value = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.ndim == 4:
            self.value = max(self.value, float(result.abs().max()))
        return result


@pytest.mark.parametrize("size_px", [256, 2048])
@torch.inference_mode()
def test_nothing_comes_near_the_end_of_float16(size_px: int) -> None:
    """Why "auto" may choose it: 65,504 is its end, 21 the most that was seen, with styles of 10,000 and more."""
    torch.manual_seed(0)
    net = Gpen(GpenConfig(size_px, 2, 1 / 16, style_dim=32, num_mapping_layers=2)).eval()
    for parameter in net.parameters():
        if parameter.detach().abs().max() == 0:
            torch.nn.init.normal_(parameter)
    for layer in [net.generator.conv1, *net.generator.convs]:
        layer.conv.modulation.bias.normal_(std=1e4)
    prepared = PreparedGpen(net)
    with Largest() as largest:
        prepared.restore_batch(torch.rand(2, 3, size_px, size_px).round() * 2 - 1)
    assert 1 < largest.value < 65504 / 100


@pytest.mark.needs_cuda
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("dtype", "mean_levels"), [(torch.float32, 0.1), (torch.float16, 0.25), (torch.bfloat16, 2.0)])
def test_the_gpu_gives_what_the_cpu_gives(
    rng: np.random.Generator, dtype: torch.dtype, mean_levels: float, fused: bool
) -> None:
    crops = random_crops(rng, 9)
    expected = restorer_of(tiny_gpen()).restore(crops).astype(int)
    device = resolve_device("cuda")
    net = network_for_cuda(tiny_gpen(), dtype, device) if fused else PreparedGpen(tiny_gpen(), dtype)
    assert isinstance(net, PreparedGpen) != fused
    restorer = PytorchRestorer(net, spec=SPEC, sha256="0" * 64, device=device, dtype=dtype, graphs=fused)
    for count in [*range(1, 10)] * 3:  # the third time from a graph
        assert np.abs(restorer.restore(crops[:count]) - expected[:count]).mean() < mean_levels


@pytest.mark.needs_cuda
def test_the_gpu_recovers_after_a_batch_that_did_not_fit() -> None:
    def forward(x: Tensor) -> Tensor:
        return x + torch.empty(2**44, device=x.device)[0] if len(x) > 2 else x

    restorer = restorer_of(Function(forward), device=resolve_device("cuda"))
    crops = np.zeros((4, SIDE_PX, SIDE_PX, 3), np.uint8)
    with pytest.raises(OutOfDeviceMemory, match="4 faces"):
        restorer.restore(crops)
    assert np.array_equal(restorer.restore(crops[:2]), crops[:2])


# ---- Loading


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    path = tmp_path / "own.safetensors"
    save_file(tiny_gpen().state_dict(), path, metadata={"template": "tight"})
    return path


def test_a_file_of_the_users_own_restores(own_file: Path, rng: np.random.Generator) -> None:
    restorer, crops = load_restorer(own_file, device="cpu"), random_crops(rng, 2)
    assert (restorer.spec.crop_px, restorer.spec.template, len(restorer.sha256)) == (SIDE_PX, "tight", 64)
    assert np.array_equal(restorer.restore(crops), restorer_of(tiny_gpen()).restore(crops))


@pytest.mark.parametrize("failure", [torch.OutOfMemoryError("CUDA out of memory.\nTried ..."), MemoryError()])
def test_a_network_that_does_not_fit_into_memory_is_one_line(
    own_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failure: Exception,
) -> None:
    def fail(net: Gpen, dtype: torch.dtype) -> PreparedGpen:
        raise failure

    monkeypatch.setattr(pytorch, "network_for_cpu", fail)
    with pytest.raises(RestoreError, match=r"^own: does not fit into memory \(cpu\); use a smaller model$"):
        load_restorer(own_file, device="cpu")
    picture = str(tmp_path / "face.png")
    cv2.imwrite(picture, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(SystemExit) as stopped:
        cli.main(["restore", picture, "--device", "cpu", "--model", str(own_file)])
    assert stopped.value.code == cli.EXIT_FAILURE
    assert capsys.readouterr().err == "vidrestore: error: own: does not fit into memory (cpu); use a smaller model\n"


def test_load_gpen_gives_a_module_of_the_asked_precision(own_file: Path) -> None:
    net = load_gpen(str(own_file), device="cpu", dtype="bfloat16")
    with torch.inference_mode():
        output = net(torch.zeros(2, 3, SIDE_PX, SIDE_PX, dtype=torch.bfloat16))
    assert (output.shape, output.dtype, net.training) == ((2, 3, SIDE_PX, SIDE_PX), torch.bfloat16, False)


def test_tensors_of_another_network_are_refused_in_one_line(tmp_path: Path, own_file: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"conv.weight": torch.ones(3)}, path)
    with pytest.raises(WeightsError, match=r"other\.safetensors: not a restorer"):
        load_restorer(path, device="cpu")
    with pytest.raises(WeightsError, match=r"own\.safetensors: not a detector but a restorer"):
        load_detector(own_file, device="cpu")
    state = tiny_gpen().state_dict()
    del state["ecd1.0.1.weight"], state["generator.to_rgb1.bias"]
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"other\.safetensors: not a GPEN generator: ") as error:
        load_restorer(path, device="cpu")
    assert "\n" not in str(error.value)


def test_a_catalogue_file_of_another_size_is_refused(weights_folder: Path) -> None:
    torch.save(tiny_gpen().state_dict(), weights_folder / spec_of("gpen-bfr-256").file_name)
    with pytest.raises(WeightsError, match="holds a GPEN of 32 px, not 256; it is not gpen-bfr-256"):
        load_restorer("gpen-bfr-256", device="cpu")


def test_the_released_detector_loads_and_finds_a_face(shared: Path) -> None:
    detector = load_detector(shared / "weights/retinaface_mobilenet0.25.pth", device="cpu")
    image = cv2.cvtColor(cv2.imread(str(shared / "stills/gt_london_007_neutral.jpg")), cv2.COLOR_BGR2RGB)
    (faces,) = detector.detect(cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA)[None])
    assert len(faces) == 1
    assert faces[0].score > 0.9


def test_official_alignment_is_the_template_of_the_gpen_rows(shared: Path) -> None:
    from vidrestore.face import template_px

    golden = json.loads((shared / "golden/gpen_alignment.json").read_text())["templates"]
    for side, points in golden.items():
        assert np.abs(template_px("gpen", int(side)) - np.array(points)).max() < 0.01
