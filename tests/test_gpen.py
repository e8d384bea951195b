import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scipy.signal import upfirdn

from vidrestore.models.gpen import Blur, Gpen, GpenConfig, ModulatedConv2d, StateDictError, Upsample

SMALL = GpenConfig(size_px=32, channel_multiplier=1, width=1 / 32, style_dim=32, num_mapping_layers=2)
VARIANTS = ("gpen-bfr-256", "gpen-bfr-512", "gpen-bfr-1024", "gpen-bfr-2048")


def small_gpen(seed: int = 0) -> Gpen:
    """A random network whose every parameter takes part: the official initialisation has zeros in places."""
    torch.manual_seed(seed)
    net = Gpen(SMALL).eval()
    for parameter in net.parameters():
        if parameter.detach().abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.3)
    return net


def test_output_equals_the_official_code_within_1e_4(shared: Path) -> None:
    net = Gpen.from_state_dict(load_file(shared / "golden/gpen_64_narrow0.125.safetensors"))
    golden = load_file(shared / "golden/gpen_64_narrow0.125_io.safetensors")
    with torch.inference_mode():
        output = net(golden["input"])
    assert (output - golden["output"]).abs().max() <= 1e-4


def test_half_precision_stays_near_the_official_code(shared: Path) -> None:
    """Mean error in 8-bit levels, on a random network whose output fills the range: 1.4 in bfloat16 when written."""
    net = Gpen.from_state_dict(load_file(shared / "golden/gpen_64_narrow0.125.safetensors")).bfloat16()
    golden = load_file(shared / "golden/gpen_64_narrow0.125_io.safetensors")
    with torch.inference_mode():
        output = net(golden["input"].bfloat16()).float()
    assert torch.isfinite(output).all()
    assert (output - golden["output"]).abs().mean() * 127.5 < 2.0


@pytest.mark.parametrize("name", VARIANTS)
def test_every_key_and_shape_of_the_official_models(shared: Path, name: str) -> None:
    official = json.loads((shared / "golden/gpen_state_dicts.json").read_text())[name]
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in official["state_dict"].items()}
        config = GpenConfig.from_state_dict(state)
        net = Gpen(config)
    assert config == GpenConfig(official["size"], official["channel_multiplier"], official["narrow"])
    assert {key: list(tensor.shape) for key, tensor in net.state_dict().items()} == official["state_dict"]
    assert sum(parameter.numel() for parameter in net.parameters()) == official["parameters"]


@pytest.mark.parametrize("size_px", [2**octave for octave in range(4, 12)])
@pytest.mark.parametrize("width", [0.125, 0.5, 1.0])
def test_configuration_is_read_off_the_tensors(size_px: int, width: float) -> None:
    for multiplier in (1, 2) if size_px > 32 else (1,):
        config = GpenConfig(size_px, multiplier, width, style_dim=64, num_mapping_layers=4)
        with torch.device("meta"):
            assert GpenConfig.from_state_dict(Gpen(config).state_dict()) == config


@pytest.mark.parametrize("size_px", [0, 8, 100, 513])
def test_sizes_are_powers_of_two_from_16(size_px: int) -> None:
    with pytest.raises(ValueError, match=f"size_px is {size_px}; it must be a power of two"):
        GpenConfig(size_px)


@pytest.mark.parametrize("upsample", [False, True])
def test_modulated_convolution_equals_a_kernel_per_face(upsample: bool) -> None:
    """The form of the StyleGAN2 paper: for each sample its own kernel, modulated, demodulated, then convolved."""
    torch.manual_seed(0)
    conv = ModulatedConv2d(6, 5, 3, style_dim=8, upsample=upsample)
    x, w = torch.randn(4, 6, 8, 8), torch.randn(4, 8)
    with torch.inference_mode():
        result = conv(x, w)
        style = conv.modulation(w)
        for n in range(4):
            kernel = conv.weight[0] / math.sqrt(6 * 9) * style[n].view(1, 6, 1, 1)  # (C_out, C_in, 3, 3)
            kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
            if upsample:
                expected = F.conv_transpose2d(x[n : n + 1], kernel.transpose(0, 1), stride=2)
                expected = reference_filter(expected, up=1, pad_px=(1, 1), gain=4.0)
            else:
                expected = F.conv2d(x[n : n + 1], kernel, padding=1)
            torch.testing.assert_close(result[n : n + 1], expected, atol=1e-5, rtol=1e-5)


def reference_filter(x: torch.Tensor, *, up: int, pad_px: tuple[int, int], gain: float) -> torch.Tensor:
    """Zeros in between, zeros around, then the binomial filter along both axes, by SciPy."""
    taps = np.array([1.0, 3.0, 3.0, 1.0]) / 8 * math.sqrt(gain)
    array = x.double().numpy()
    for axis in (2, 3):
        full = upfirdn(taps, array, up=up, axis=axis)  # as if padded by 3 on both sides, less the zeros after the end
        first = len(taps) - 1 - pad_px[0]
        length = array.shape[axis] * up + sum(pad_px) - (len(taps) - 1)
        padding = [(0, 0)] * 4
        padding[axis] = (max(-first, 0), length)
        full = np.pad(full, padding)
        array = np.take(full, np.arange(max(first, 0), max(first, 0) + length), axis=axis)
    return torch.from_numpy(array).float()


@pytest.mark.parametrize("pad_px", [(2, 2), (1, 1), (2, 1)])
def test_blur_equals_an_fir_filter(pad_px: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    expected = reference_filter(x, up=1, pad_px=pad_px, gain=1.0)
    torch.testing.assert_close(Blur(pad_px)(x), expected, atol=1e-6, rtol=1e-5)


def test_upsampling_equals_an_fir_filter_and_keeps_the_brightness() -> None:
    x = torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    expected = reference_filter(x, up=2, pad_px=(2, 1), gain=4.0)
    torch.testing.assert_close(Upsample()(x), expected, atol=1e-6, rtol=1e-5)
    flat = Upsample()(torch.full((1, 3, 8, 8), 0.7))
    torch.testing.assert_close(flat[:, :, 1:-1, 1:-1], torch.full((1, 3, 14, 14), 0.7))


def test_a_face_comes_out_the_same_in_any_batch() -> None:
    net = small_gpen()
    x = torch.randn(9, 3, 32, 32)
    with torch.inference_mode():
        alone = torch.cat([net(face[None]) for face in x])
        for size in range(1, 10):
            assert (net(x[:size]) - alone[:size]).abs().max() < 1e-4  # 127.5 levels per unit: 0.01 of a level


def test_every_layer_takes_part() -> None:
    net = small_gpen()
    net(torch.randn(2, 3, 32, 32)).square().sum().backward()
    silent = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert silent == []


def test_loading_gives_the_same_network_in_evaluation_mode() -> None:
    net, x = small_gpen(), torch.randn(1, 3, 32, 32)
    loaded = Gpen.from_state_dict(net.state_dict())
    assert not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(x), net(x))


def test_half_precision_files_load_as_float32() -> None:
    loaded = Gpen.from_state_dict({key: tensor.half() for key, tensor in small_gpen().state_dict().items()})
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}


def test_tensors_that_do_not_fit_are_named() -> None:
    state = small_gpen().state_dict()
    key = "generator.convs.0.conv.weight"
    with pytest.raises(StateDictError, match=r"generator\.convs\.0\.conv\.weight is missing"):
        Gpen.from_state_dict({name: tensor for name, tensor in state.items() if name != key})
    with pytest.raises(StateDictError, match="extra is not expected"):
        Gpen.from_state_dict({**state, "extra": torch.zeros(1)})
    with pytest.raises(StateDictError, match=r"conv\.weight has shape \(1, 2, 3\), expected \(1, 16, 32, 3, 3\)"):
        Gpen.from_state_dict({**state, key: torch.zeros(1, 2, 3)})
    with pytest.raises(StateDictError, match="not finite"):
        Gpen.from_state_dict({**state, key: torch.full_like(state[key], math.nan)})
    with pytest.raises(StateDictError, match="not a GPEN generator"):
        Gpen.from_state_dict({"weight": torch.zeros(1)})
