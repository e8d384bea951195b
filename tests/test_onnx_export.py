"""An exported file is the network that it was made from, says what it is, and appears only when it has been checked."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from tests.onnx_files import tiny_gpen, write_weights
from vidrestore import cli
from vidrestore.errors import OptionsError, RestoreError, TargetError, WeightsError
from vidrestore.models import export as exporter
from vidrestore.models import onnx_graph, onnx_nodes
from vidrestore.models.backends.onnx_runtime import METADATA, OnnxNetwork
from vidrestore.models.export import MAX_DIFFERENCE, export, resolve_precision
from vidrestore.models.gpen import Gpen, GpenConfig
from vidrestore.models.spec import ModelSpec
from vidrestore.models.weights import file_sha256

CPU = torch.device("cpu")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "tiny.safetensors", tiny_gpen(32))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("size_px", [64, 128, 256])
def test_any_number_of_faces_comes_out_as_from_pytorch(size_px: int, half: bool, tmp_path: Path) -> None:
    """Outputs reach 3 here. Measured: 3e-6 in float32; 3e-3 in float16, where onnxruntime's CPU rounds to it."""
    net = tiny_gpen(size_px, channel_multiplier=2 if size_px == 128 else 1)
    target = tmp_path / "net.onnx"
    export(write_weights(tmp_path / "net.safetensors", net), target, half=half, dynamic_batch=True)
    exported = OnnxNetwork(target, CPU)
    faces = torch.rand(5, 3, size_px, size_px, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        expected = net(faces)
    assert expected.std() > 0.2
    for count in (1, 2, 3, 5):
        difference = (exported(faces[:count]) - expected[:count]).abs().max()
        assert difference <= (0.01 if half else 1e-5)


def test_the_result_of_a_face_does_not_depend_on_its_batch(weights: Path, tmp_path: Path) -> None:
    export(weights, tmp_path / "net.onnx", dynamic_batch=True)
    exported = OnnxNetwork(tmp_path / "net.onnx", CPU)
    faces = torch.rand(9, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    alone = torch.cat([exported(face[None]) for face in faces])
    for count in range(2, 10):
        assert (exported(faces[:count]) - alone[:count]).abs().max() <= 1e-5


def test_half_precision_takes_styles_that_float16_could_not_hold(tmp_path: Path) -> None:
    """Demodulation divides by what the style multiplied: with styles of 1e5 the picture is the same."""
    net = tiny_gpen(32)
    with torch.no_grad():
        net.generator.convs[0].conv.modulation.weight.mul_(1e5)
        net.generator.convs[0].conv.modulation.bias.mul_(1e5)
    difference = export(write_weights(tmp_path / "net.safetensors", net), tmp_path / "net.onnx", half=True)
    assert difference < 0.01


@pytest.mark.parametrize(("half", "dynamic", "batch"), [(False, False, 1), (False, True, "N"), (True, True, "N")])
def test_the_file_is_one_valid_file_of_the_documented_form(
    half: bool, dynamic: bool, batch: int | str, weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    export(weights, folder / "net.onnx", half=half, dynamic_batch=dynamic)
    assert [path.name for path in folder.iterdir()] == ["net.onnx"]  # no second file with the weights
    model = onnx.load(str(folder / "net.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    for name, value in (("input", model.graph.input[0]), ("output", model.graph.output[0])):
        sizes = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        assert (value.name, value.type.tensor_type.elem_type, sizes) == (name, TensorProto.FLOAT, [batch, 3, 32, 32])
    kernels = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4 and tensor.dims[2] == 3}
    assert kernels == {TensorProto.FLOAT16 if half else TensorProto.FLOAT}
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert tuple(found) == METADATA
    assert (found["name"], found["template"], found["crop_px"], found["license"]) == ("tiny", "tight", "32", "none")
    assert (found["precision"], found["sha256"]) == ("float16" if half else "float32", file_sha256(weights))


def test_the_largest_gpen_stays_far_below_the_limit_of_the_format() -> None:
    """2 GB, in one file; each parameter is stored once, beside the small kernels of the blurs."""
    net = tiny_gpen(64)
    model = onnx_graph.gpen_graph(net, precision="float32", dynamic_batch=True, metadata={})
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    stored = sum(int(np.prod(tensor.dims)) for tensor in floats if "kernel" not in tensor.name)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    assert parameters <= stored <= parameters + 10  # and a few numbers of the graph itself
    with torch.device("meta"):
        largest = Gpen(GpenConfig(2048))
    assert sum(parameter.numel() for parameter in largest.parameters()) * 4 < 2e9 / 4


@torch.inference_mode()
def test_convolutions_in_parts_give_the_same(tmp_path: Path) -> None:
    """A quarter of the official width is enough for some to be large enough. Measured: 3e-6."""
    torch.manual_seed(1)
    net = Gpen(GpenConfig(64, 1, 1 / 4, style_dim=32, num_mapping_layers=2)).eval()
    for name, parameter in net.named_parameters():
        if name.endswith("noise.weight"):
            parameter.fill_(0.5)
    model = onnx_graph.gpen_graph(net, precision="float32", dynamic_batch=True, metadata={}, for_cpu=True)
    onnx.checker.check_model(model, full_check=True)
    constants = [name for node in model.graph.node for name in node.input]
    assert sum("mixing.kernel" in name for name in constants) == 6 * 2
    assert sum("weight.even.even" in name for name in constants) == 2
    onnx.save(model, str(tmp_path / "net.onnx"))
    exported, faces = OnnxNetwork(tmp_path / "net.onnx", CPU), torch.rand(3, 3, 64, 64) * 2 - 1
    for count in (1, 3):
        torch.testing.assert_close(exported(faces[:count]), net(faces[:count]), atol=1e-4, rtol=0)


# ---- What is refused, and what it leaves behind


@pytest.mark.parametrize("fault", ["too far", "no number", "no memory"])
def test_a_file_that_differs_is_not_left_behind(
    fault: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "too far":
        monkeypatch.setattr(onnx_nodes, "LEAKY_SLOPE", 0.21)
    elif fault == "no number":
        monkeypatch.setattr(onnx_graph, "EPSILON", float("nan"))
    else:
        monkeypatch.setattr(exporter, "largest_difference", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "net.onnx").write_bytes(b"an older one")
    error, message = (MemoryError, None) if fault == "no memory" else (RestoreError, "not written: .* more than 0.001")
    with pytest.raises(error, match=message):
        export(weights, folder / "net.onnx", overwrite=True)
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("net.onnx", b"an older one")]


def test_weights_that_float16_cannot_hold_are_named(tmp_path: Path) -> None:
    net = tiny_gpen(32)
    with torch.no_grad():
        net.generator.convs[1].activate.bias[0] = 1e6
    path = write_weights(tmp_path / "net.safetensors", net)
    with pytest.raises(WeightsError, match=r"convs\.1\.own_bias does not fit into float16; use float32"):
        export(path, tmp_path / "net.onnx", half=True)


def test_targets_are_checked_before_any_work(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"net\.pth: an exported model's name ends in \.onnx"):
        export(weights, tmp_path / "net.pth")
    (tmp_path / "net.onnx").write_bytes(b"precious")
    with pytest.raises(TargetError, match="exists already; use --overwrite"):
        export("no such model", tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match="neither a file nor a model's name"):
        export("no such model", tmp_path / "other.onnx")
    assert (tmp_path / "net.onnx").read_bytes() == b"precious"


def test_without_the_package_the_message_says_what_to_install(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(OptionsError, match=r"pip install 'vidrestore\[onnx\]'"):
        export(weights, tmp_path / "net.onnx")


def test_the_command_prints_the_largest_difference(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "net.onnx"
    cli.main(["export", str(weights), "-o", str(target), "--dynamic-batch"])
    line = capsys.readouterr().out
    assert line.startswith(f"{target}: ")
    assert float(line.split("largest difference from PyTorch ")[1].split()[0]) <= MAX_DIFFERENCE["float32"]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", str(weights), "-o", str(target)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_precision_of_an_export_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec("x", "restorer", "", None, None, None, "", "", 32, "gpen")
    fragile = ModelSpec("x", "restorer", "", None, None, None, "", "", 32, "gpen", half_ok=False)
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert [resolve_precision("auto", device, spec) for device in (CPU, gpu)] == ["float32", "float16"]
    assert resolve_precision("auto", gpu, fragile) == "float32"
    assert resolve_precision("float16", CPU, spec) == "float16"
    with pytest.raises(OptionsError, match="--dtype bfloat16: the ONNX engine computes in float32 or float16"):
        resolve_precision("bfloat16", CPU, spec)
