"""The first part of the detector's training: every layer of the student learns to be the teacher's layer.

Trained from end to end alone, a student of the teacher's own size stayed far from its features: after 7,000 steps 39%
of their power was missing, and its landmarks were 12% of the eye distance off. Here each layer gets what the teacher's
layer gets, and is to answer what that answers: many small problems that do not wait for one another. (Romero et al.,
FitNets, ICLR 2015, teach one layer so; Li et al., CVPR 2020, "Blockwisely Supervised Neural Architecture Search with
Knowledge Distillation", each block.)
"""

from functools import partial

import torch
from torch import Tensor, nn

VARIANCE_FLOOR = 0.01
"""Of the mean variance of a layer's channels: one that hardly varies must not rule the sum."""


def layers(network: nn.Module) -> dict[str, nn.Sequential]:
    """The parts that are matched, by name: each convolution with its normalisation and activation, and the heads."""
    found: dict[str, nn.Sequential] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d):
            # A depthwise separable block is two layers, one after the other.
            starts = [index for index, part in enumerate(module) if isinstance(part, nn.Conv2d)]
            for start, end in zip(starts, [*starts[1:], len(module)], strict=True):
                found[f"{name}.{start}"] = module[start:end]
        elif name.endswith(".conv1x1"):
            found[name] = nn.Sequential(module)
    return found


class LayerRecorder:
    """Keeps what goes into and comes out of each layer of a network while it runs."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        for name, layer in layers(network).items():
            layer[0].register_forward_hook(partial(self._enter, name))
            layer[-1].register_forward_hook(partial(self._leave, name))

    def _enter(self, name: str, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        self.inputs[name] = args[0]

    def _leave(self, name: str, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        self.outputs[name] = output

    @torch.no_grad()
    def __call__(self, x: Tensor) -> None:
        self.network(x)


def layer_errors(student: nn.Module, teacher: LayerRecorder) -> dict[str, Tensor]:
    """Of each layer, the mean squared error over the variance of each of the teacher's channels."""
    errors = {}
    for name, layer in layers(student).items():
        output, wanted = layer(teacher.inputs[name]).float(), teacher.outputs[name].float()
        variance = wanted.var(dim=(0, 2, 3))
        variance = variance.clamp_min(VARIANCE_FLOOR * variance.mean())
        errors[name] = ((output - wanted).square().mean(dim=(0, 2, 3)) / variance).mean()
    return errors
