"""Tiny networks as weights files, and ONNX files as other programs write them."""

from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from vidrestore.models.gpen import Gpen, GpenConfig

LEVEL = 2 / 255
"""One level of 8 bits, to a network."""


def tiny_gpen(size_px: int, channel_multiplier: int = 1) -> Gpen:
    """Random; every parameter takes part, and outputs depend on the input and use the range of 8 bits."""
    torch.manual_seed(size_px)
    net = Gpen(GpenConfig(size_px, channel_multiplier, 1 / 32, style_dim=32, num_mapping_layers=2))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("noise.weight"):
                parameter.fill_(0.5)
            elif not parameter.any():
                parameter.normal_(std=0.1)
        for level in net.generator.to_rgbs:
            level.conv.weight.mul_(0.3)
    return net.eval()


def write_weights(path: Path, net: Gpen, template: str = "tight") -> Path:
    save_file(net.state_dict(), path, metadata={"template": template, "license": "none"})
    return path


def noise(rng: np.random.Generator, count: int, size_px: int) -> NDArray[np.uint8]:
    """(count, S, S, 3) crops."""
    return rng.integers(0, 256, (count, size_px, size_px, 3), dtype=np.uint8)


def write_foreign(
    path: Path,
    input_shape: tuple[int | str, ...] = (1, 3, 32, 32),
    output_shape: tuple[int | str, ...] | None = None,
    *,
    names: tuple[str, str] = ("img", "enhanced"),
    dtype: int = TensorProto.FLOAT,
    factor: float = -1.0,
    body: tuple[onnx.NodeProto, ...] = (),
    constants: tuple[onnx.TensorProto, ...] = (),
    extra_inputs: int = 0,
) -> Path:
    """A file of another program: input times `factor` (-1 makes negatives), or the nodes of `body`."""
    inputs = [helper.make_tensor_value_info(names[0], dtype, input_shape)]
    inputs += [helper.make_tensor_value_info(f"extra{i}", dtype, [1]) for i in range(extra_inputs)]
    outputs = [helper.make_tensor_value_info(names[1], dtype, output_shape or input_shape)]
    value = np.array(factor, np.float16 if dtype == TensorProto.FLOAT16 else np.float32)
    nodes = body or (helper.make_node("Mul", [names[0], "factor"], [names[1]]),)
    initializers = [*constants, numpy_helper.from_array(value, "factor")]
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    onnx.save(model, str(path))
    return path
