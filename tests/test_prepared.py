"""Promises of the network as it runs: the same faces as the module that trains, at any size, batch or precision."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.networks import random_gpen
from vidrestore.models.gpen import Gpen
from vidrestore.models.prepared import PreparedGpen, doubled_image

sys.path.insert(0, str(Path(__file__).parent / "bench"))
from plain_gpen import plain_forward


@torch.inference_mode()
def test_both_ways_to_modulate_give_the_same() -> None:
    """Kernels of their own are for single faces; several at once, as on a GPU, share theirs."""
    prepared = PreparedGpen(random_gpen(128))
    faces = torch.rand(3, 3, 128, 128) * 2 - 1
    torch.testing.assert_close(prepared.restore_batch(faces), prepared(faces), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_output_equals_the_official_code_within_1e_4(shared: Path) -> None:
    net = Gpen.from_state_dict(load_file(shared / "golden/gpen_64_narrow0.125.safetensors"))
    golden = load_file(shared / "golden/gpen_64_narrow0.125_io.safetensors")
    assert (PreparedGpen(net)(golden["input"]) - golden["output"]).abs().max() <= 1e-4


@torch.inference_mode()
def test_winograd_convolutions_give_the_same_within_1e_4() -> None:
    """A quarter of the official width is enough for some to be large enough."""
    net = random_gpen(128, width=1 / 4)
    prepared = PreparedGpen(net, winograd=True)
    assert [conv.is_winograd for conv in prepared.convs].count(True) >= 2
    faces = torch.rand(2, 3, 128, 128) * 2 - 1
    torch.testing.assert_close(prepared(faces), plain_forward(net, faces), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_the_number_of_threads_changes_not_a_bit(dtype: torch.dtype) -> None:
    """Large enough for PyTorch to spread its operations over threads, and for Winograd convolutions."""
    prepared = PreparedGpen(random_gpen(128, width=1 / 4), dtype, winograd=True)
    faces = torch.rand(3, 3, 128, 128) * 2 - 1
    before = torch.get_num_threads()
    results = []
    try:
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            results.append(prepared(faces))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=0, rtol=0)


@torch.inference_mode()
def test_bfloat16_is_off_by_half_as_much_as_the_module_in_bfloat16() -> None:
    """Mean error on networks whose output fills the range: 0.6 of 255 levels when written, 1.4 for the module."""
    net = random_gpen(128, width=1 / 16)
    faces = torch.rand(2, 3, 128, 128) * 2 - 1
    expected = net(faces)
    error = (PreparedGpen(net, torch.bfloat16)(faces) - expected).abs().mean() / expected.std()
    module_error = (net.bfloat16()(faces.bfloat16()).float() - expected).abs().mean() / expected.std()
    assert error < 0.7 * module_error
    assert error < 0.02


@pytest.mark.parametrize("batch", [1, 2])
@torch.inference_mode()
def test_float16_does_not_overflow_where_styles_are_large(batch: int) -> None:
    """What a style of 100,000 scales up, demodulation scales down: only on the way between is it beyond float16."""
    net = random_gpen(64, width=1 / 8)
    for layer in [net.generator.conv1, *net.generator.convs]:
        layer.conv.modulation.bias.fill_(1e5)
    faces = torch.rand(batch, 3, 64, 64) * 2 - 1
    assert torch.isfinite(PreparedGpen(net, torch.float16).restore_batch(faces)).all()
    assert not torch.isfinite(net.half()(faces.half())).all()


@torch.inference_mode()
def test_an_image_is_doubled_as_the_module_does() -> None:
    net = random_gpen(32)
    upsample = net.generator.to_rgbs[0].upsample
    image = torch.rand(2, 3, 8, 8)
    doubled = doubled_image(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(doubled, upsample(image), atol=1e-6, rtol=0)
