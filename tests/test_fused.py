"""Promises of GPEN on CUDA: what the plain operations give, at any size, batch and precision.

Triton's interpreter runs the kernels on the CPU. It must be asked for before Triton is loaded, so those tests run in a
process of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.networks import random_gpen
from vidrestore.models.gpen import Blur, Upsample
from vidrestore.models.prepared import PreparedGpen

pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="run by test_the_kernels_compute_what_the_operations_compute")
UPSAMPLINGS = ("transposed", "phases", "subpixel")


def test_the_kernels_compute_what_the_operations_compute() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "interpreted", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    folder = Path(__file__).parents[1]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


def picture(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def activated(x: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(x + bias[:, None, None], 0.2)


@interpreted
@pytest.mark.parametrize(("faces", "channels", "size_px"), [(3, 1, 4), (1, 70, 8), (2, 3, 64)])
def test_interpreted_first_layer_and_encoder_blur(faces: int, channels: int, size_px: int) -> None:
    from vidrestore.models.fused_kernels import blurred, from_rgb

    faces_seen, kernel = torch.randn(faces, 3, size_px, size_px), torch.randn(channels, 3)
    expected = F.conv2d(faces_seen, kernel[:, :, None, None])
    for layout in (torch.contiguous_format, torch.channels_last):
        result = from_rgb(faces_seen.contiguous(memory_format=layout), kernel, torch.float32)
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    x, bias = picture(faces, channels, size_px, size_px), torch.randn(channels)
    torch.testing.assert_close(blurred(x, bias), Blur((2, 2))(activated(x, bias)), atol=1e-5, rtol=0)


@interpreted
@pytest.mark.parametrize("has_next", [True, False])
@pytest.mark.parametrize("phases", [True, False])
@pytest.mark.parametrize(("faces", "channels", "size_px"), [(3, 1, 4), (1, 70, 8), (2, 3, 16)])
def test_interpreted_styled_layers(faces: int, channels: int, size_px: int, phases: bool, has_next: bool) -> None:
    from vidrestore.models.fused_kernels import Scaled, ToImage, styled, upsampled

    features = picture(faces, channels, size_px, size_px)
    # Rows of styles and demodulation lie apart, as in the tables of all layers.
    gain, next_style = torch.rand(faces, channels + 3)[:, :channels], torch.randn(faces, 2 * channels + 1)[:, :-1]
    bias, encoder_bias, feature_gain, feature_bias = (torch.randn(size) for size in (channels, channels, 1, channels))
    scaled = Scaled(gain, bias, encoder_bias, feature_gain, feature_bias, next_style if has_next else None)
    beside = activated(activated(features, encoder_bias) * feature_gain, feature_bias)

    def both(own: Tensor) -> Tensor:
        return torch.cat((activated(own * gain[:, :, None, None], bias), beside), dim=1)

    conv = picture(faces, channels, size_px, size_px)
    expected = both(conv)
    to_image = ToImage(torch.randn(3, 2 * channels), torch.randn(faces, 2 * channels), torch.randn(3), None)
    image = torch.einsum("nchw,kc,nc->nkhw", expected, to_image.kernel, to_image.style) + to_image.bias[:, None, None]
    given = F.pixel_unshuffle(conv, 2).unflatten(1, (channels, 4)).transpose(1, 2).flatten(1, 2) if phases else conv
    coarser = torch.randn(faces, 3, size_px // 2, size_px // 2)
    for one, more in ((to_image, image), (to_image._replace(coarser=coarser), image + Upsample()(coarser))):
        out, result = styled(given, features, scaled, one)
        assert result is not None
        torch.testing.assert_close(result, more, atol=1e-4, rtol=1e-5)
        assert (out is not None) == has_next
        if out is not None:
            torch.testing.assert_close(out, expected * next_style[:, :, None, None], atol=1e-5, rtol=1e-5)
    assert styled(given, features, scaled, None)[1] is None

    if has_next:
        doubled = picture(faces, channels, size_px + 1, size_px + 1)
        expected = both(Blur((1, 1), gain=4.0)(doubled)) * next_style[:, :, None, None]
        if phases:  # the last row and column are zero in a convolution's result
            doubled = F.pixel_unshuffle(F.pad(doubled, (0, 1, 0, 1)), 2)
            doubled = doubled.unflatten(1, (channels, 4)).transpose(1, 2).flatten(1, 2)
        torch.testing.assert_close(upsampled(doubled, features, scaled), expected, atol=1e-5, rtol=1e-5)


@interpreted
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@torch.inference_mode()
def test_interpreted_network(upsampling: str) -> None:
    from vidrestore.models.fused import FusedGpen

    net = random_gpen(16)
    faces = torch.rand(1, 3, 16, 16) * 2 - 1
    expected = net(faces)
    assert expected.std() > 0.1
    torch.testing.assert_close(FusedGpen(net, upsampling=upsampling)(faces), expected, atol=1e-5, rtol=1e-5)


@interpreted
@torch.inference_mode()
def test_interpreted_float16_does_not_overflow_where_styles_are_large() -> None:
    from vidrestore.models.fused import FusedGpen

    net = random_gpen(16)
    for layer in [net.generator.conv1, *net.generator.convs]:
        layer.conv.modulation.bias.fill_(1e5)
    faces = torch.rand(1, 3, 16, 16) * 2 - 1
    expected = net(faces)
    difference = (FusedGpen(net, torch.float16)(faces) - expected).abs()
    assert difference.max() < 0.01 * expected.std()


# ---- What needs no kernels


@torch.inference_mode()
def test_doubling_as_an_ordinary_convolution_is_the_same() -> None:
    from vidrestore.models.fused import phases_kernel, subpixel_kernel

    x, kernel = torch.randn(2, 5, 6, 6), torch.randn(5, 7, 3, 3)
    doubled = F.conv_transpose2d(x, kernel, stride=2)
    phases = F.conv2d(x, phases_kernel(kernel), padding=1).unflatten(1, (4, 7)).transpose(1, 2).flatten(1, 2)
    torch.testing.assert_close(F.pixel_shuffle(phases, 2), F.pad(doubled, (0, 1, 0, 1)), atol=1e-4, rtol=0)
    phases = F.conv2d(x, subpixel_kernel(kernel), padding=1).unflatten(1, (4, 7)).transpose(1, 2).flatten(1, 2)
    torch.testing.assert_close(F.pixel_shuffle(phases, 2), Blur((1, 1), gain=4.0)(doubled), atol=1e-4, rtol=0)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
def test_the_kernels_compile_for_hopper_with_the_widest_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton needs no GPU to compile: 16 bytes at once wherever channels are read or written, and nothing spilled."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from vidrestore.models import fused_kernels

    sizes = {"BLOCKS_C": 2, "BLOCK_C": 64, "BLOCK_P": 16, "BLOCK_X": 16, "ROWS": 2, "PHASES": False}
    flags = {"HAS_OUT": True, "HAS_IMAGE": True, "HAS_COARSER": True}
    pictures = ("picture", "conv", "features", "out")
    for kernel in (fused_kernels.blurred_kernel, fused_kernels.upsampled_kernel, fused_kernels.styled_kernel):
        signature, constants, divisible = {}, {}, {}
        for number, name in enumerate(kernel.arg_names):
            if name.isupper():
                signature[name], constants[number,] = "constexpr", {**sizes, **flags}[name]
                continue
            is_number = name in ("channels", "height", "width") or name.endswith("stride")
            signature[name] = "i32" if is_number else "*fp16" if name in pictures else "*fp32"
            divisible[number,] = [["tt.divisibility", 16]]
        source = ASTSource(kernel, signature, constants, divisible)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=fused_kernels.COMPILED)
        code = compiled.asm["ptx"]
        assert "ld.global.v4.b32" in code
        assert "st.global.v4.b32" in code
        assert "b16" not in "".join(line for line in code.splitlines() if ".global." in line)
        assert ".local" not in code


# ---- On a GPU

TOLERANCES = {torch.float32: 1e-4, torch.float16: 0.03, torch.bfloat16: 0.2}
"""Largest error, in standard deviations of the output."""


def check_on_gpu(size_px: int, dtype: torch.dtype, upsampling: str) -> None:
    from vidrestore.models.backends.cuda_graphs import convolutions
    from vidrestore.models.fused import FusedGpen

    net = random_gpen(size_px, width=1 / 4)
    faces = torch.rand(2, 3, size_px, size_px) * 2 - 1
    expected = PreparedGpen(net)(faces)
    with convolutions(benchmark=False):
        result = FusedGpen(net, dtype, upsampling=upsampling).cuda()(faces.cuda()).cpu()
    assert (result - expected).abs().max() <= TOLERANCES[dtype] * max(float(expected.std()), 1.0)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("size_px", [2**octave for octave in range(4, 12)])
@torch.inference_mode()
def test_every_size_on_a_gpu(size_px: int, dtype: torch.dtype) -> None:
    check_on_gpu(size_px, dtype, "transposed")


@pytest.mark.needs_cuda
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("dtype", list(TOLERANCES))
@torch.inference_mode()
def test_every_precision_and_way_to_double_on_a_gpu(dtype: torch.dtype, upsampling: str) -> None:
    check_on_gpu(64, dtype, upsampling)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("graphs", [False, True])
@torch.inference_mode()
def test_a_face_comes_out_the_same_in_any_batch_on_a_gpu(graphs: bool) -> None:
    from vidrestore.models.backends.cuda_graphs import GraphedNet, convolutions
    from vidrestore.models.fused import FusedGpen

    net = FusedGpen(random_gpen(64, width=1 / 8)).cuda()
    faces = torch.rand(9, 3, 64, 64, device="cuda") * 2 - 1
    graphed = GraphedNet(lambda x: (net(x),), max_graphs=9 if graphs else 0)
    with convolutions(benchmark=False):
        expected = torch.cat([net(face[None]) for face in faces])
        for count in [*range(1, 10)] * 2:
            torch.testing.assert_close(graphed(faces[:count])[0], expected[:count], atol=1e-5, rtol=0)


@pytest.mark.needs_cuda
@torch.inference_mode()
def test_faces_beyond_what_32_bits_can_count() -> None:
    """17 faces of 2048 px and 32 channels are more than 2^31 elements."""
    from vidrestore.models.fused_kernels import blurred

    x = torch.randn(1, 32, 2048, 2048, device="cuda", dtype=torch.float16).to(memory_format=torch.channels_last)
    many = torch.empty(17, 32, 2048, 2048, device="cuda", dtype=torch.float16, memory_format=torch.channels_last)
    many[-1] = x[0]
    bias = torch.randn(32, device="cuda")
    assert torch.equal(blurred(many, bias)[-1], blurred(x, bias)[0])
