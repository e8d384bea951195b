"""One network, many ways to run it: each gives the same faces, at any size, in any batch, with any number of threads.

The reference is the plain maths of the official code (`bench/plain_gpen.py`) in float32. Networks are as narrow as the
architecture allows; those with Winograd convolutions are wide enough for some layers to take them.
"""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor

from vidrestore.models import onnx_graph, prepared
from vidrestore.models.backends.onnx_runtime import OnnxNetwork
from vidrestore.models.backends.pytorch import network_for_cuda
from vidrestore.models.gpen import Gpen, GpenConfig
from vidrestore.models.onnx_graph import gpen_graph
from vidrestore.models.prepared import PreparedGpen, runs_in_onednn

sys.path.insert(0, str(Path(__file__).parent / "bench"))
from plain_gpen import plain_forward

CPU = torch.device("cpu")
Network = Callable[[Tensor], Tensor]

LARGEST_ERROR = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.2}
MEAN_ERROR = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 0.02}
"""Of outputs scaled to a standard deviation of 1, three times as much as a picture's. Measured on a CPU, the largest of
all engines and sizes: 9e-6, 7e-3 and 0.1, and on average 2e-6, 9e-4 and 0.012."""
ANY_BATCH = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 5e-3}
"""Between a face alone and in a batch, or with other threads, where an engine may add in another order."""

ENGINES = {
    "pytorch float32": ("pytorch", "float32"),
    "pytorch bfloat16": ("pytorch", "bfloat16"),
    "pytorch float16": ("pytorch", "float16"),
    "winograd float32": ("winograd", "float32"),
    "winograd bfloat16": ("winograd", "bfloat16"),
    "onnx float32": ("onnx", "float32"),
    "onnx float16": ("onnx", "float16"),
    "onnx in parts float32": ("onnx in parts", "float32"),
}
WAYS = [
    (name, size_px)
    for name, (engine, _) in ENGINES.items()
    for size_px in ((128, 256) if engine == "winograd" else (64, 128, 256, 512, 1024, 2048))
]
"""Smaller networks have no layer that Winograd's algorithm is taken for, larger ones take long."""
CUDA_DTYPES = ("float32", "bfloat16", "float16")


@cache
def random_gpen(size_px: int, width: float) -> Gpen:
    """A network whose every parameter takes part: the official initialisation has zeros in places."""
    torch.manual_seed(size_px)
    net = Gpen(GpenConfig(size_px, 2, width, style_dim=32, num_mapping_layers=2)).eval()
    for parameter in net.parameters():
        if parameter.detach().abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.3)
    return net


@cache
def case(size_px: int, width: float, count: int) -> tuple[Tensor, Tensor]:
    """Faces, and what the plain maths makes of them."""
    faces = torch.rand(count, 3, size_px, size_px, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        return faces, plain_forward(random_gpen(size_px, width), faces)


def build(engine: str, dtype: str, net: Gpen, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    if dtype == "bfloat16" and not runs_in_onednn(torch.bfloat16):
        pytest.skip("this CPU has no bfloat16")
    if engine == "pytorch":
        return PreparedGpen(net, getattr(torch, dtype))
    if engine == "winograd":
        network = PreparedGpen(net, getattr(torch, dtype), winograd=True)
        if dtype == "float32":
            assert any(conv.is_winograd for conv in network.convs)
        return network
    in_parts = engine == "onnx in parts"
    if in_parts:
        monkeypatch.setattr(onnx_graph, "IN_PARTS_MIN_CHANNELS", 1)
        monkeypatch.setattr(onnx_graph, "IN_PARTS_MIN_PX", 8)
    model = gpen_graph(net, precision=dtype, dynamic_batch=True, metadata={}, for_cpu=in_parts)
    onnx.save(model, str(folder / "net.onnx"))
    return OnnxNetwork(folder / "net.onnx", CPU)


def width_of(engine: str, size_px: int) -> float:
    """In parts of the official one: the narrowest layer has a channel, or some layers are wide enough for Winograd."""
    return 1 / 4 if engine == "winograd" else max(1 / 32, size_px / 2**15)


def assert_same(result: Tensor, expected: Tensor, dtype: str) -> None:
    error = (result.float().cpu() - expected).abs() / expected.std()
    assert error.max() <= LARGEST_ERROR[dtype]
    assert error.mean() <= MEAN_ERROR[dtype]


@pytest.mark.parametrize(("name", "size_px"), WAYS)
@torch.inference_mode()
def test_every_engine_and_precision_gives_the_same_at_every_size(
    name: str, size_px: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, dtype = ENGINES[name]
    width = width_of(engine, size_px)
    faces, expected = case(size_px, width, 2 if size_px <= 256 else 1)
    assert expected.std() > 0.1
    net = build(engine, dtype, random_gpen(size_px, width), tmp_path, monkeypatch)
    assert_same(net(faces), expected, dtype)


@pytest.mark.parametrize("name", ENGINES)
@torch.inference_mode()
def test_a_face_comes_out_the_same_in_batches_of_1_to_9(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, dtype = ENGINES[name]
    monkeypatch.setattr(prepared, "WINOGRAD_MIN_FLOP", 0)
    size_px, width = 64, 1 / 8 if engine == "winograd" else 1 / 32
    net = build(engine, dtype, random_gpen(size_px, width), tmp_path, monkeypatch)
    faces = torch.rand(9, 3, size_px, size_px, generator=torch.Generator().manual_seed(2)) * 2 - 1
    alone = torch.cat([net(face[None]) for face in faces])
    assert len(alone) == 9
    for count in range(2, 10):
        # PyTorch takes them one by one on a CPU: not a bit may differ.
        tolerance = ANY_BATCH[dtype] if engine.startswith("onnx") else 0
        torch.testing.assert_close(net(faces[:count]), alone[:count], atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", ENGINES)
@torch.inference_mode()
def test_the_number_of_threads_changes_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, dtype = ENGINES[name]
    monkeypatch.setattr(prepared, "WINOGRAD_MIN_FLOP", 0)
    size_px, width = 64, 1 / 8 if engine == "winograd" else 1 / 32
    faces, _ = case(size_px, width, 2)
    before = torch.get_num_threads()
    results = []
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            net = build(engine, dtype, random_gpen(size_px, width), tmp_path, monkeypatch)
            results.append(net(faces))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(results[0], results[1], atol=ANY_BATCH[dtype], rtol=0)


@torch.inference_mode()
def test_the_module_that_trains_is_the_plain_maths_too() -> None:
    for size_px in (16, 32, 64, 256):
        width = width_of("pytorch", size_px)
        faces, expected = case(size_px, width, 2)
        assert_same(random_gpen(size_px, width)(faces), expected, "float32")


@pytest.mark.needs_cuda
@pytest.mark.parametrize("dtype", CUDA_DTYPES)
@pytest.mark.parametrize("size_px", [64, 128, 256, 512, 1024, 2048])
@torch.inference_mode()
def test_on_a_gpu_every_precision_gives_the_same_at_every_size(size_px: int, dtype: str) -> None:
    width = max(1 / 8, size_px / 2**14)  # kernels for GPUs may want several channels
    faces, expected = case(size_px, width, 1)
    device = torch.device("cuda", 0)
    net = network_for_cuda(random_gpen(size_px, width), getattr(torch, dtype), device)
    assert_same(net(faces.to(device)), expected, dtype)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("dtype", CUDA_DTYPES)
@torch.inference_mode()
def test_on_a_gpu_a_face_comes_out_the_same_in_batches_of_1_to_9(dtype: str) -> None:
    """To within rounding: the GPU's libraries choose other kernels for other batches."""
    device = torch.device("cuda", 0)
    net = network_for_cuda(random_gpen(64, 1 / 8), getattr(torch, dtype), device)
    faces = (torch.rand(9, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1).to(device)
    alone = torch.cat([net(face[None]) for face in faces])
    for count in range(2, 10):
        assert_same(net(faces[:count]), alone[:count].float().cpu(), dtype)
