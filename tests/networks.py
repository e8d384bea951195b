"""Small networks with random weights."""

import torch

from vidrestore.models.gpen import Gpen, GpenConfig


def random_gpen(size_px: int, width: float = 1 / 32) -> Gpen:
    """A network whose every parameter takes part: the official initialisation has zeros in places."""
    torch.manual_seed(size_px)
    net = Gpen(GpenConfig(size_px, 1 if size_px < 64 else 2, width, style_dim=32, num_mapping_layers=2)).eval()
    for parameter in net.parameters():
        if parameter.detach().abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.3)
    return net
