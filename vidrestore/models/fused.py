"""GPEN on a CUDA GPU: the same layers as `prepared.py`, with all that lies between two convolutions in one pass.

Convolutions are cuDNN's, in channels_last on tensor cores; what lies between them is in `fused_kernels.py`. A styled
layer's output leaves already multiplied with the next layer's style, and its share of the RGB image is summed up before
it is written; the encoder's bias and activation wait until its features are read.
Nothing overflows in float16: styles are divided by the largest of their layer, which the demodulation takes into
account, and scales, biases, activations and the image are float32.
"""

from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore.models.fused_kernels import Scaled, ToImage, blurred, from_rgb, styled, upsampled
from vidrestore.models.gpen import ACTIVATION_GAIN, EPSILON, Gpen, binomial_kernel
from vidrestore.models.prepared import Down, PreparedGpen, Rgb, Styled, channels_last, leaky_relu_

Upsampling = Literal["transposed", "phases", "subpixel"]
"""How a picture is doubled. "transposed" is a transposed 3 x 3 convolution, then the filter. "phases" computes the same
as an ordinary 2 x 2 convolution with four times the channels, one for each place in a block of 2 x 2 pixels (1.8 times
the multiplications, of a kind that GPUs do faster). "subpixel" has the filter in its 3 x 3 kernel (4 times)."""
UPSAMPLING: Upsampling = "transposed"


class FusedGpen(nn.Module):
    """(N, 3, S, S) RGB in [-1, 1] -> the same in float32. For inference, on CUDA.

    Convolutions compute in `dtype`; all else is float32.
    """

    constant: Tensor
    channel_of: Tensor
    power: Tensor

    def __init__(self, net: Gpen, dtype: torch.dtype = torch.float32, *, upsampling: Upsampling = UPSAMPLING) -> None:
        super().__init__()
        prepared = PreparedGpen(net)
        self.config = net.config
        self.dtype = dtype
        self.from_rgb_kernel = fixed(prepared.from_rgb.kernel.flatten(start_dim=1).contiguous())  # (C, 3)
        downs, convs = cast("list[Down]", list(prepared.downs)), cast("list[Styled]", list(prepared.convs))
        self.down_kernels = nn.ParameterList(fixed(channels_last(down.kernel, dtype)) for down in downs)
        encoder_biases = [prepared.from_rgb.bias, *(down.bias for down in downs)]
        self.encoder_biases = nn.ParameterList(fixed(bias) for bias in encoder_biases)
        self.to_latent, self.mapping, self.styles = prepared.to_latent, prepared.mapping, prepared.styles
        self.layers = nn.ModuleList(Layer(conv, dtype, upsampling) for conv in convs)
        self.to_rgbs = prepared.to_rgbs
        conv_sizes, self.rgb_sizes = prepared.style_sizes[: len(convs)], prepared.style_sizes[len(convs) :]
        self.num_conv_styles = sum(conv_sizes)
        self.register_buffer("constant", prepared.constant)
        self.register_buffer("channel_of", padded_indices(conv_sizes))
        self.register_buffer("power", padded_powers([conv.power for conv in convs]))

    def forward(self, x: Tensor) -> Tensor:
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]  # where Triton launches
            return self._restored(x)

    def _restored(self, x: Tensor) -> Tensor:
        x = from_rgb(x, self.from_rgb_kernel, self.dtype)
        features = [x]
        for bias, kernel in zip(self.encoder_biases, self.down_kernels, strict=False):
            x = F.conv2d(blurred(x, bias), kernel, stride=2)
            features.append(x)
        x = leaky_relu_(x.float() + self.encoder_biases[-1][:, None, None])
        w = leaky_relu_(self.to_latent(x.flatten(start_dim=1)))
        w = w * torch.rsqrt(w.square().mean(dim=1, keepdim=True) + EPSILON)
        for linear in self.mapping:
            w = leaky_relu_(linear(w))
        all_styles = self.styles(w)
        styles, demodulation = self._modulation(all_styles[:, : self.num_conv_styles])
        rgb_styles = torch.split(all_styles[:, self.num_conv_styles :], self.rgb_sizes, dim=1)

        first = styles[0, :, : self.constant.shape[1], None, None]
        x = channels_last(self.constant * first, self.dtype)
        image = None
        last = len(self.layers) - 1
        for number, layer in enumerate(cast("list[Layer]", self.layers)):
            level = (number + 1) // 2  # of resolution, from 4 px
            is_second = number % 2 == 0  # at its resolution, or the only one
            encoder_bias = self.encoder_biases[-1 - level]
            next_style = None if number == last else styles[number + 1, :, : 2 * layer.num_out]
            scaled = layer.scaled(demodulation[number], encoder_bias, next_style)
            to_image = to_image_of(cast(Rgb, self.to_rgbs[level]), rgb_styles[level], image) if is_second else None
            x, summed = layer(x, features[-1], scaled, to_image)
            if is_second:
                features.pop()  # what was used is let go: at 2048 px it is most of the memory
                image = summed
        assert image is not None
        return image

    def _modulation(self, styles: Tensor) -> tuple[Tensor, Tensor]:
        """(N, all channels) -> styles with a largest value of 1 (L, N, C) and demodulation (L, N, C'), padded.

        Of all layers at once: they are small, and on a GPU each operation costs as much as a large one.
        """
        padded = styles[:, self.channel_of].transpose(0, 1)  # (L, N, C)
        largest = padded.abs().amax(dim=2, keepdim=True).clamp_min(EPSILON)
        padded = padded / largest
        norm = torch.bmm(padded.square(), self.power)
        return padded, torch.rsqrt(norm + EPSILON / largest.square()) * ACTIVATION_GAIN


class Layer(nn.Module):
    """A styled layer. (N, C, H, W), multiplied with its style -> (N, 2 C', H or 2H, ...), with the next one's."""

    kernel: Tensor
    bias: Tensor
    feature_gain: Tensor
    feature_bias: Tensor

    def __init__(self, layer: Styled, dtype: torch.dtype, upsampling: Upsampling) -> None:
        """`layer` is float32."""
        super().__init__()
        self.num_out = layer.num_out
        self.upsampling = upsampling if layer.upsamples else None
        kernel = layer.kernel  # (C', C, 3, 3), or (C, C', 3, 3) where it upsamples
        if self.upsampling == "phases":
            kernel = phases_kernel(kernel)
        elif self.upsampling == "subpixel":
            kernel = subpixel_kernel(kernel)
        self.register_buffer("kernel", channels_last(kernel, dtype))
        self.register_buffer("bias", layer.bias)
        self.register_buffer("feature_gain", layer.feature_gain)
        self.register_buffer("feature_bias", layer.feature_bias.flatten())

    def scaled(self, demodulation: Tensor, encoder_bias: Tensor, next_style: Tensor | None) -> Scaled:
        return Scaled(demodulation, self.bias, encoder_bias, self.feature_gain, self.feature_bias, next_style)

    def forward(
        self, x: Tensor, features: Tensor, scaled: Scaled, to_image: ToImage | None
    ) -> tuple[Tensor | None, Tensor | None]:
        if self.upsampling == "transposed":
            return upsampled(F.conv_transpose2d(x, self.kernel, stride=2), features, scaled), None
        conv = F.conv2d(x, self.kernel, padding=1)
        if self.upsampling == "phases":
            return upsampled(conv, features, scaled), None
        return styled(conv, features, scaled, to_image)


def to_image_of(layer: Rgb, style: Tensor, coarser: Tensor | None) -> ToImage:
    return ToImage(layer.kernel, style, layer.bias.flatten(), coarser)


def fixed(tensor: Tensor) -> nn.Parameter:
    """For a `ParameterList`."""
    return nn.Parameter(tensor.detach(), requires_grad=False)


def padded_indices(sizes: list[int]) -> Tensor:
    """(L, largest size): where each layer's styles lie beside one another; its first again where it has no more."""
    indices = torch.zeros(len(sizes), max(sizes), dtype=torch.long)
    start = 0
    for row, size in zip(indices, sizes, strict=True):
        row.fill_(start)
        row[:size] = torch.arange(start, start + size)
        start += size
    return indices


def padded_powers(powers: list[Tensor]) -> Tensor:
    """[(C, C')] -> (L, largest C, largest C'), filled up with zeros."""
    padded = torch.zeros(len(powers), max(len(power) for power in powers), max(power.shape[1] for power in powers))
    for layer, power in zip(padded, powers, strict=True):
        layer[: power.shape[0], : power.shape[1]] = power
    return padded


def phases_kernel(kernel: Tensor) -> Tensor:
    """(C, C', 3, 3) of a transposed convolution with stride 2 -> (4 C', C, 2, 2) of an ordinary one, padded by 1.

    Row 2i of the doubled picture sees rows i - 1 (tap 2) and i (tap 0), row 2i + 1 sees row i (tap 1); columns alike.
    """
    taps = ((2, 0), (None, 1))  # [phase][place in the 2 x 2 kernel]
    num_in, num_out = kernel.shape[:2]
    phases = kernel.new_zeros(2, 2, num_out, num_in, 2, 2)
    for phase_y, rows in enumerate(taps):
        for phase_x, columns in enumerate(taps):
            for y, row in enumerate(rows):
                for x, column in enumerate(columns):
                    if row is not None and column is not None:
                        phases[phase_y, phase_x, :, :, y, x] = kernel[:, :, row, column].t()
    return phases.flatten(end_dim=2)


def subpixel_kernel(kernel: Tensor) -> Tensor:
    """(C, C', 3, 3) of a transposed convolution with stride 2, before the filter -> (4 C', C, 3, 3) of an ordinary one,
    padded by 1, that does both.

    With the filter the kernel has 6 x 6 taps, -2 to 3. Row 2i + p sees rows i - 1, i, i + 1 with taps p + 2, p, p - 2.
    """
    num_in, num_out = kernel.shape[:2]
    taps = F.conv2d(kernel.reshape(-1, 1, 3, 3), binomial_kernel(4.0)[None, None].to(kernel.device), padding=3)
    taps = taps.view(num_in, num_out, 6, 6).transpose(0, 1)
    phases = [taps[:, :, [4 + y, 2 + y, y]][:, :, :, [4 + x, 2 + x, x]] for y in (0, 1) for x in (0, 1)]
    return torch.cat(phases)
