"""Promises of the Winograd convolution: what PyTorch's own computes, whatever the size and the number of threads."""

import threading
from collections.abc import Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidrestore.models.gpen import binomial_kernel
from vidrestore.models.products import can_multiply
from vidrestore.models.side_by_side import side_by_side
from vidrestore.models.winograd import in_threads, styled_conv, transformed_kernel, upsampling_kernels

needs_bfloat16 = pytest.mark.skipif(not can_multiply(torch.bfloat16), reason="this processor has no bfloat16 products")


def random_layer(size_px: int, num_in: int, num_out: int, *, upsamples: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(size_px + num_in)
    out_px = 2 * size_px if upsamples else size_px
    pictures = {"x": torch.randn(1, num_in, size_px, size_px), "features": torch.randn(1, num_out, out_px, out_px)}
    return {
        **{name: picture.contiguous(memory_format=torch.channels_last) for name, picture in pictures.items()},
        "kernel": torch.randn(num_out, num_in, 3, 3) / (9 * num_in) ** 0.5,
        "style": torch.randn(num_in),
        "demodulation": torch.rand(num_out) + 0.5,
        "bias": torch.randn(num_out),
        "feature_gain": torch.randn(1),
        "feature_bias": torch.randn(num_out),
    }


def through_pytorch(layer: dict[str, Tensor], *, upsamples: bool = False) -> Tensor:
    x, kernel = layer["x"] * layer["style"][:, None, None], layer["kernel"]
    if upsamples:
        own = F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2)
        blur = binomial_kernel(4.0).expand(len(kernel), 1, 4, 4)
        own = F.conv2d(own, blur, padding=1, groups=len(kernel))
    else:
        own = F.conv2d(x, kernel, padding=1)
    own = own * layer["demodulation"][:, None, None] + layer["bias"][:, None, None]
    beside = layer["features"] * layer["feature_gain"] + layer["feature_bias"][:, None, None]
    return F.leaky_relu(torch.cat((own, beside), dim=1), 0.2)


def through_winograd(
    layer: dict[str, Tensor], dtype: torch.dtype = torch.float32, *, upsamples: bool = False
) -> Tensor:
    kernel = upsampling_kernels(layer["kernel"]) if upsamples else layer["kernel"]
    pictures = {name: layer[name].to(dtype) for name in ("x", "features")}
    return styled_conv(**{**layer, **pictures, "kernel": transformed_kernel(kernel, dtype)})


@pytest.mark.parametrize("upsamples", [False, True])
@pytest.mark.parametrize(("size_px", "num_in", "num_out"), [(4, 8, 32), (8, 64, 32), (32, 40, 96), (64, 16, 64)])
@torch.inference_mode()
def test_it_is_the_convolution_with_all_that_surrounds_it(
    size_px: int, num_in: int, num_out: int, upsamples: bool
) -> None:
    """Edges included: a picture of 4 px is nothing but edges. Outputs are about 1, the error is 1e-5."""
    layer = random_layer(size_px, num_in, num_out, upsamples=upsamples)
    result = through_winograd(layer, upsamples=upsamples)
    torch.testing.assert_close(result, through_pytorch(layer, upsamples=upsamples), atol=1e-4, rtol=0)
    assert result.is_contiguous(memory_format=torch.channels_last)


@needs_bfloat16
@pytest.mark.parametrize("upsamples", [False, True])
@torch.inference_mode()
def test_bfloat16_rounds_what_is_multiplied_and_never_the_sums(upsamples: bool) -> None:
    """Root mean square error 0.013 on outputs of about 1; products rounded as well made it 0.025."""
    layer = random_layer(32, 128, 64, upsamples=upsamples)
    result = through_winograd(layer, torch.bfloat16, upsamples=upsamples)
    assert result.dtype == torch.bfloat16
    error = result.float() - through_pytorch(layer, upsamples=upsamples)
    assert error.square().mean().sqrt() < 0.016


@pytest.mark.parametrize("upsamples", [False, True])
@torch.inference_mode()
def test_the_number_of_threads_changes_nothing_and_is_left_as_it_was(upsamples: bool) -> None:
    layer = random_layer(64, 64, 64, upsamples=upsamples)
    before = torch.get_num_threads()
    results = []
    try:
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            results.append(through_winograd(layer, upsamples=upsamples))
            assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=0, rtol=0)


def test_faces_at_once_have_strips_at_work_on_all_cores() -> None:
    """Two faces with two threads each: four strips wait for one another, and with fewer at work they would for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    four = threading.Barrier(4, timeout=60)

    def run(strips: Iterable[int]) -> None:
        for _ in strips:
            four.wait()

    def restore(face: Tensor) -> Tensor:
        in_threads(run, range(2))
        return face

    try:
        side_by_side(restore, torch.zeros(2, 1))
    finally:
        torch.set_num_threads(before)
