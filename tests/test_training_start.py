"""Promises of the start as the identity: what the network is shown, it shows."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.training_runs import ALONE, smooth_faces, tiny_config
from vidrestore.models.gpen import Gpen, GpenConfig
from vidrestore.training.losses import psnr_db
from vidrestore.training.start import start_as_identity
from vidrestore.training.train import train


@pytest.mark.parametrize(("size_px", "multiplier"), [(32, 1), (128, 1), (128, 2)])
def test_an_untrained_network_gives_its_input_back(size_px: int, multiplier: int) -> None:
    """Within 1e-4 in float32, and above 45 dB where training computes in bfloat16."""
    torch.manual_seed(0)
    net = Gpen(GpenConfig(size_px, multiplier, 0.125, 32, 2))
    start_as_identity(net)
    x = torch.rand(2, 3, size_px, size_px) * 2 - 1
    with torch.no_grad():
        assert (net(x) - x).abs().max() < 1e-4
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert psnr_db(net(x).float(), x).min() > 45


def test_the_input_stays_in_sight_while_the_network_learns(tmp_path: Path) -> None:
    """After training, a network whose other colours are taken away returns its input within 1e-4."""
    config = tiny_config(4)
    loop = dataclasses.replace(config.loop, learning_rate=0.05)
    net = train(dataclasses.replace(config, loop=loop), smooth_faces(), tmp_path, ALONE).net
    channels = net.config.channels(32)
    for to_rgb in (net.generator.to_rgb1, *net.generator.to_rgbs):
        to_rgb.bias.data.zero_()
        kept = to_rgb.conv.weight.data[:, :, channels : channels + 6].clone()
        assert to_rgb.conv.weight.abs().max() > 0.01, "it has learnt something"
        to_rgb.conv.weight.data.zero_()
        if to_rgb is net.generator.to_rgbs[-1]:
            to_rgb.conv.weight.data[:, :, channels : channels + 6] = kept
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        assert (net(x) - x).abs().max() < 1e-4


def test_every_weight_that_matters_can_learn_from_the_identity() -> None:
    """The last ToRGB and the first encoder layer get gradients at the first step, the styled layers at the second."""
    torch.manual_seed(0)
    net = Gpen(GpenConfig(32, 1, 0.125, 16, 2))
    start_as_identity(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    for _ in range(2):
        optimizer.zero_grad()
        (net(x) - 0.5 * x).square().mean().backward()
        optimizer.step()
    silent = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []
