"""Start a GPEN as the identity: before the first training step it returns its input.

From random weights a small network must first learn to pass a picture through at all, which took longer than ten
minutes on two CPU cores; from the identity every step improves on the degraded input. The network keeps its form:

1. The first 1 x 1 encoder layer gets the rows +R, -R, +G, -G, +B, -B. For a leaky ReLU f, f(x) - f(-x) is linear in x.
2. The last styled layer concatenates these features (concat weight 1) and activates them once more: still linear.
3. The last ToRGB takes the differences, unmodulated; every other ToRGB weight is 0.
"""

import copy

import torch

from vidrestore.models.gpen import ACTIVATION_GAIN, LEAKY_SLOPE, EqualConv2d, FeatureConcat, Gpen, StyledConv, ToRGB

PAIR_GAIN = ACTIVATION_GAIN**2 * (1 + LEAKY_SLOPE**2)
"""g(x) - g(-x) = PAIR_GAIN * x for g = two leaky ReLUs in a row: x passes twice unattenuated, -x twice attenuated."""
NUM_COLORS = 3


@torch.no_grad()
def start_as_identity(net: Gpen) -> None:
    """Set the weights named above in place; all others stay as drawn. Raises ValueError below six channels."""
    first, last_rgb = full_size_layers(net)
    channels = first.weight.shape[0]
    if channels < 2 * NUM_COLORS:
        raise ValueError(f"the network has {channels} channels at full size; the identity needs {2 * NUM_COLORS}")

    for module in net.modules():
        if isinstance(module, FeatureConcat):
            module.weight.fill_(1)  # at 0, as in StyleGAN2, the encoder would be heard through the code z alone
        elif isinstance(module, ToRGB):
            module.conv.weight.zero_()
            module.bias.zero_()

    show_input(net)


@torch.no_grad()
def show_input(net: Gpen) -> None:
    """Steps 1 to 3 of the identity, in place: the input reaches the output, whatever the rest adds.

    Called after every training step it keeps this path open. Left to the optimizer, its few weights waver by a percent,
    and good faces, where nothing is to be added, lose most by that: after 1,000 steps at 64 px clean faces came back
    with 42 dB, and the mildest third of the inputs had lost 0.9 dB.
    """
    first, last_rgb = full_size_layers(net)
    last_styled = net.generator.convs[-1]
    assert isinstance(last_styled, StyledConv)
    channels = first.weight.shape[0]
    in_encoder, in_features = slice(0, 2 * NUM_COLORS), slice(channels, channels + 2 * NUM_COLORS)
    first.weight[in_encoder] = 0
    net.get_parameter("ecd0.0.1.bias")[in_encoder] = 0
    last_styled.noise.weight.fill_(1)
    last_styled.activate.bias[in_features] = 0
    last_rgb.conv.weight[0, :, in_features] = 0
    last_rgb.conv.modulation.weight[in_features] = 0
    last_rgb.conv.modulation.bias[in_features] = 1
    for color in range(NUM_COLORS):
        first.weight[2 * color, color] = 1 / first.scale
        first.weight[2 * color + 1, color] = -1 / first.scale
        for row, share in shown_rows(net, color):
            last_rgb.conv.weight[0, color, row] = share


def shows_input(net: Gpen) -> bool:
    """Whether `show_input` would change nothing but roundings."""
    open_path = copy.deepcopy(net)
    show_input(open_path)
    wanted = open_path.state_dict()
    # Weights that were stored in half precision are a rounding off.
    return all(torch.allclose(value, wanted[key], atol=1e-3, rtol=1e-3) for key, value in net.state_dict().items())


def shown_rows(net: Gpen, color: int) -> list[tuple[int, float]]:
    """Which features the last ToRGB adds up to the input's colour, and each one's weight."""
    first, last_rgb = full_size_layers(net)
    share = 1 / (PAIR_GAIN * last_rgb.conv.scale)
    # In the concatenation the styled half comes first, the encoder's features second.
    row = first.weight.shape[0] + 2 * color
    return [(row, share), (row + 1, -share)]


def full_size_layers(net: Gpen) -> tuple[EqualConv2d, ToRGB]:
    """The first layer of the encoder and the last of the generator."""
    first, last_rgb = net.get_submodule("ecd0.0.0"), net.generator.to_rgbs[-1]
    assert isinstance(first, EqualConv2d)
    assert isinstance(last_rgb, ToRGB)
    return first, last_rgb
