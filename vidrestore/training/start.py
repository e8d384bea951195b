"""Start a GPEN as the identity: before the first training step it returns its input.

From random weights a small network must first learn to pass a picture through at all, which took longer than ten
minutes on two CPU cores; from the identity every step improves on the degraded input. The network keeps its form:

1. The first 1 x 1 encoder layer gets the rows +R, -R, +G, -G, +B, -B. For a leaky ReLU f, f(x) - f(-x) is linear in x.
2. The last styled layer concatenates these features (concat weight 1) and activates them once more: still linear.
3. The last ToRGB takes the differences, unmodulated; every other ToRGB weight is 0.
"""

import torch

from vidrestore.models.gpen import ACTIVATION_GAIN, LEAKY_SLOPE, EqualConv2d, FeatureConcat, Gpen, StyledConv, ToRGB

PAIR_GAIN = ACTIVATION_GAIN**2 * (1 + LEAKY_SLOPE**2)
"""g(x) - g(-x) = PAIR_GAIN * x for g = two leaky ReLUs in a row: x passes twice unattenuated, -x twice attenuated."""
NUM_COLORS = 3


@torch.no_grad()
def start_as_identity(net: Gpen) -> None:
    """Set the weights named above in place; all others stay as drawn. Raises ValueError below six channels."""
    first, last_rgb = net.get_submodule("ecd0.0.0"), net.generator.to_rgbs[-1]
    last_styled = net.generator.convs[-1]
    assert isinstance(first, EqualConv2d)
    assert isinstance(last_rgb, ToRGB)
    assert isinstance(last_styled, StyledConv)
    channels = first.weight.shape[0]
    if channels < 2 * NUM_COLORS:
        raise ValueError(f"the network has {channels} channels at full size; the identity needs {2 * NUM_COLORS}")

    for module in net.modules():
        if isinstance(module, FeatureConcat):
            module.weight.fill_(1)  # at 0, as in StyleGAN2, the encoder would be heard through the code z alone
        elif isinstance(module, ToRGB):
            module.conv.weight.zero_()
            module.bias.zero_()

    for color in range(NUM_COLORS):
        plus, minus = 2 * color, 2 * color + 1
        first.weight[[plus, minus]] = 0
        first.weight[plus, color] = 1 / first.scale
        first.weight[minus, color] = -1 / first.scale
        # In the concatenation the styled half comes first, the encoder's features second.
        for row, sign in ((channels + plus, 1), (channels + minus, -1)):
            last_rgb.conv.weight[0, color, row] = sign / (PAIR_GAIN * last_rgb.conv.scale)
            last_rgb.conv.modulation.weight[row] = 0
            last_rgb.conv.modulation.bias[row] = 1
