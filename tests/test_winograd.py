"""Promises of the Winograd convolution: what PyTorch's own computes, whatever the size and the number of threads."""

import os

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidrestore.models.winograd import styled_conv, transformed_kernel, workers


def random_layer(size_px: int, num_in: int, num_out: int) -> dict[str, Tensor]:
    torch.manual_seed(size_px + num_in)
    pictures = {"x": torch.randn(1, num_in, size_px, size_px), "features": torch.randn(1, num_out, size_px, size_px)}
    return {
        **{name: picture.contiguous(memory_format=torch.channels_last) for name, picture in pictures.items()},
        "kernel": torch.randn(num_out, num_in, 3, 3) / (9 * num_in) ** 0.5,
        "style": torch.randn(num_in),
        "demodulation": torch.rand(num_out) + 0.5,
        "bias": torch.randn(num_out),
        "feature_gain": torch.randn(1),
        "feature_bias": torch.randn(num_out),
    }


def through_winograd(layer: dict[str, Tensor]) -> Tensor:
    return styled_conv(**{**layer, "kernel": transformed_kernel(layer["kernel"])})


@pytest.mark.parametrize(("size_px", "num_in", "num_out"), [(4, 8, 8), (8, 64, 32), (32, 40, 24), (64, 16, 48)])
@torch.inference_mode()
def test_it_is_the_convolution_with_all_that_surrounds_it(size_px: int, num_in: int, num_out: int) -> None:
    """Edges included: a picture of 4 px is nothing but edges. Outputs are about 1, the error is 1e-5."""
    layer = random_layer(size_px, num_in, num_out)
    own = F.conv2d(layer["x"] * layer["style"][:, None, None], layer["kernel"], padding=1)
    own = own * layer["demodulation"][:, None, None] + layer["bias"][:, None, None]
    beside = layer["features"] * layer["feature_gain"] + layer["feature_bias"][:, None, None]
    expected = F.leaky_relu(torch.cat((own, beside), dim=1), 0.2)
    result = through_winograd(layer)
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)
    assert result.is_contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def test_the_number_of_threads_changes_nothing_and_is_left_as_it_was() -> None:
    layer = random_layer(64, 64, 64)
    before = torch.get_num_threads()
    results = []
    try:
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            results.append(through_winograd(layer))
            assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=1e-5, rtol=0)


def test_each_worker_computes_alone() -> None:
    """Also after an operation that PyTorch spreads over threads: three workers of three threads each are no help."""

    def threads_after_work() -> int:
        torch.ones(2**20).add_(1)
        return torch.get_num_threads()

    before = torch.get_num_threads()
    try:
        pool = workers(3, os.getpid())
        assert {pool.submit(threads_after_work).result() for _ in range(9)} == {1}
    finally:
        torch.set_num_threads(before)
