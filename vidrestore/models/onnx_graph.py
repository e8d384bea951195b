"""GPEN as an ONNX graph: the function of `models/gpen.py`, spelled in ONNX operators.

It is written out instead of traced from the module. A trace fixes the batch, repeats on every face what can be folded
into the weights once, and takes most of a minute; and the form that is fastest for PyTorch is not the form that is
fastest here. `models/export.py` holds the two equal, at every export.

Scales and gains are folded into the weights (a leaky ReLU commutes with a positive factor). The sums of squares that
demodulation needs are left to the runtime, which computes them once, when it loads. In float16, convolutions and what
lies between them are float16; styles, demodulation and the sum of the RGB images stay float32, and so do input and
output. A style is then divided by its largest value before it scales a picture, and the result multiplied by it, so
that nothing overflows on the way.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vidrestore.models.gpen import (
    ACTIVATION_GAIN,
    EPSILON,
    LEAKY_SLOPE,
    MAPPING_LR_MULTIPLIER,
    Gpen,
    GpenConfig,
)

Precision = Literal["float32", "float16"]
OPSET = 17
"""Of the standard operators; onnxruntime reads it since 1.12 (2022), TensorRT since 8.6."""
IR_VERSION = 8
"""The file format that came with the opset."""
GRAPH_VERSION = 1
"""Raised with every change of the graph, so that files made before it are not taken for it."""
INPUT, OUTPUT = "input", "output"
"""Both (N, 3, S, S) float32 RGB in [-1, 1]."""
BATCH = "N"
"""Name of the first axis where it is dynamic."""


def gpen_graph(net: Gpen, *, precision: Precision, dynamic_batch: bool, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """The network as one self-contained model; its batch axis is `BATCH`, or 1.

    Raises ValueError for a weight that does not fit into float16.
    """
    state = {key: tensor.detach().cpu().float().numpy() for key, tensor in net.state_dict().items()}
    size_px, batch = net.config.size_px, BATCH if dynamic_batch else 1
    image = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, size_px, size_px]) for name in (INPUT, OUTPUT)
    ]
    nodes = _Nodes(precision)
    _restore(nodes, state, net.config)
    graph = helper.make_graph(nodes.nodes, "gpen", [image[0]], [image[1]], nodes.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="vidrestore")
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(metadata))
    return model


class _Nodes:
    """The nodes so far, in order, and their constants. Values are names; each method returns that of its result."""

    def __init__(self, precision: Precision) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.picture_dtype = np.dtype(precision)
        """Of pictures and convolution kernels."""

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        result = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, list(inputs), [result], name=f"{operator}_{len(self.nodes)}", **attributes)
        )
        return result

    def constant(self, name: str, value: NDArray[np.float32], *, is_picture: bool = False) -> str:
        dtype = self.picture_dtype if is_picture else np.dtype(np.float32)
        if np.abs(value).max() > np.finfo(dtype).max:
            raise ValueError(f"{name} does not fit into {dtype}")
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def as_picture(self, value: str) -> str:
        """Any float to the pictures' precision."""
        return value if self.picture_dtype == np.float32 else self.add("Cast", value, to=TensorProto.FLOAT16)

    def as_float32(self, value: str) -> str:
        return value if self.picture_dtype == np.float32 else self.add("Cast", value, to=TensorProto.FLOAT)

    def per_channel(self, value: str) -> str:
        """(N, C) float32 -> (N, C, 1, 1) of the pictures' precision."""
        return self.as_picture(self.add("Unsqueeze", value, "last_axes"))

    def leaky_relu(self, x: str) -> str:
        return self.add("LeakyRelu", x, alpha=LEAKY_SLOPE)

    def linear(
        self, x: str, state: Mapping[str, NDArray[np.float32]], key: str, scale: float, bias_scale: float
    ) -> str:
        """x (N, in) -> (N, out), in float32."""
        weight = self.constant(f"{key}.weight", state[f"{key}.weight"] * scale)
        bias = self.constant(f"{key}.bias", state[f"{key}.bias"] * bias_scale)
        return self.add("Gemm", x, weight, bias, transB=1)

    def blur(self, x: str, key: str, kernel: NDArray[np.float32], channels: int, pad_px: int) -> str:
        """Each channel filtered alone by a (4, 4) kernel."""
        weight = self.constant(f"{key}.kernel", np.tile(kernel, (channels, 1, 1, 1)), is_picture=True)
        return self.add("Conv", x, weight, group=channels, kernel_shape=[4, 4], pads=[pad_px] * 4)


def _restore(nodes: _Nodes, state: Mapping[str, NDArray[np.float32]], config: GpenConfig) -> None:
    """From `INPUT` to `OUTPUT`; the same order as `Gpen.forward`."""
    nodes.initializers.append(numpy_helper.from_array(np.array([2, 3], np.int64), "last_axes"))
    nodes.constant("epsilon", np.array(EPSILON, np.float32))
    nodes.constant("activation_gain", np.array(ACTIVATION_GAIN, np.float32))
    features = _encoded(nodes, state, config)

    w = nodes.as_float32(nodes.add("Flatten", features[-1], axis=1))
    num_in = state["final_linear.0.weight"].shape[1]
    w = nodes.linear(w, state, "final_linear.0", ACTIVATION_GAIN / math.sqrt(num_in), ACTIVATION_GAIN)
    w = nodes.leaky_relu(w)
    mean_square = nodes.add("ReduceMean", nodes.add("Mul", w, w), axes=[1], keepdims=1)
    w = nodes.add("Div", w, nodes.add("Sqrt", nodes.add("Add", mean_square, "epsilon")))
    gain = ACTIVATION_GAIN * MAPPING_LR_MULTIPLIER
    for layer in range(1, config.num_mapping_layers + 1):
        scale = gain / math.sqrt(config.style_dim)
        w = nodes.leaky_relu(nodes.linear(w, state, f"generator.style.{layer}", scale, gain))

    x = nodes.constant("generator.input.input", state["generator.input.input"], is_picture=True)  # one for all faces
    x = _styled(nodes, state, "generator.conv1", x, w, features[-1])
    image = _to_rgb(nodes, state, "generator.to_rgb1", x, w, None)
    num_levels = len(config.resolutions_px) - 1
    for level in range(num_levels):
        finer = features[-2 - level]
        x = _styled(nodes, state, f"generator.convs.{2 * level}", x, w, finer, upsample=True)
        x = _styled(nodes, state, f"generator.convs.{2 * level + 1}", x, w, finer)
        output = OUTPUT if level == num_levels - 1 else None
        image = _to_rgb(nodes, state, f"generator.to_rgbs.{level}", x, w, image, output=output)


def _encoded(nodes: _Nodes, state: Mapping[str, NDArray[np.float32]], config: GpenConfig) -> Sequence[str]:
    """The encoder's features, fine to coarse."""
    x = nodes.as_picture(INPUT)
    features = []
    for level in range(len(config.resolutions_px)):
        first = 0 if level == 0 else 1  # from ecd1 on, a blur stands before the convolution
        kernel = state[f"ecd{level}.0.{first}.weight"]
        num_out, num_in, side = kernel.shape[:3]
        if level > 0:
            x = nodes.blur(x, f"ecd{level}.0.0", state[f"ecd{level}.0.0.kernel"], num_in, pad_px=2)
        scale = ACTIVATION_GAIN / math.sqrt(num_in * side**2)
        weight = nodes.constant(f"ecd{level}.0.{first}.weight", kernel * scale, is_picture=True)
        bias_key = f"ecd{level}.0.{first + 1}.bias"
        bias = nodes.constant(bias_key, state[bias_key] * ACTIVATION_GAIN, is_picture=True)
        stride = 1 if level == 0 else 2
        x = nodes.leaky_relu(nodes.add("Conv", x, weight, bias, kernel_shape=[side] * 2, strides=[stride] * 2))
        features.append(x)
    return features


def _modulated_input(
    nodes: _Nodes, state: Mapping[str, NDArray[np.float32]], key: str, x: str, w: str
) -> tuple[str, str, str | None]:
    """(picture scaled by its style, the style (N, C) that did it, what that was divided by (N, 1) or None)."""
    num_in, style_dim = state[f"{key}.modulation.weight"].shape
    style = nodes.linear(w, state, f"{key}.modulation", 1 / math.sqrt(style_dim), 1.0)
    largest = None
    if nodes.picture_dtype != np.float32:
        largest = nodes.add("ReduceMax", nodes.add("Abs", style), axes=[1], keepdims=1)
        largest = nodes.add("Max", largest, "epsilon")  # a style of zeros stays one
        style = nodes.add("Div", style, largest)
    return nodes.add("Mul", x, nodes.per_channel(style)), style, largest


def _styled(
    nodes: _Nodes,
    state: Mapping[str, NDArray[np.float32]],
    key: str,
    x: str,
    w: str,
    features: str,
    *,
    upsample: bool = False,
) -> str:
    """`StyledConv`: modulated convolution, the encoder's features beside its output, bias and leaky ReLU."""
    kernel = state[f"{key}.conv.weight"][0]  # (C_out, C_in, 3, 3)
    num_out, num_in = kernel.shape[:2]
    kernel = kernel / math.sqrt(num_in * 9)
    x, style, largest = _modulated_input(nodes, state, f"{key}.conv", x, w)
    if upsample:
        weight = nodes.constant(f"{key}.conv.weight", kernel.transpose(1, 0, 2, 3), is_picture=True)
        x = nodes.add("ConvTranspose", x, weight, kernel_shape=[3, 3], strides=[2, 2])
        x = nodes.blur(x, f"{key}.conv.blur", state[f"{key}.conv.blur.kernel"], num_out, pad_px=1)
    else:
        weight = nodes.constant(f"{key}.conv.weight", kernel, is_picture=True)
        x = nodes.add("Conv", x, weight, kernel_shape=[3, 3], pads=[1] * 4)

    # 1 / sqrt(sum over (i, k, k) of (w * s_i)^2 + epsilon), and the gain of the activation.
    power = nodes.add("ReduceSumSquare", nodes.as_float32(weight), axes=[2, 3], keepdims=0)
    norm = nodes.add("Gemm", nodes.add("Mul", style, style), power, transB=0 if upsample else 1)  # (N, C_out)
    epsilon = "epsilon"
    if largest is not None:  # the style was divided by it, so that epsilon must be as well
        epsilon = nodes.add("Div", "epsilon", nodes.add("Mul", largest, largest))
    demodulation = nodes.add("Div", "activation_gain", nodes.add("Sqrt", nodes.add("Add", norm, epsilon)))
    x = nodes.add("Mul", x, nodes.per_channel(demodulation))

    bias = (state[f"{key}.activate.bias"] * ACTIVATION_GAIN).reshape(2, num_out, 1, 1)
    own_bias = nodes.constant(f"{key}.own_bias", bias[0], is_picture=True)
    own = nodes.leaky_relu(nodes.add("Add", x, own_bias))
    feature_gain = nodes.constant(
        f"{key}.feature_gain", state[f"{key}.noise.weight"] * ACTIVATION_GAIN, is_picture=True
    )
    feature_bias = nodes.constant(f"{key}.feature_bias", bias[1], is_picture=True)
    beside = nodes.leaky_relu(nodes.add("Add", nodes.add("Mul", features, feature_gain), feature_bias))
    return nodes.add("Concat", own, beside, axis=1)


def _to_rgb(
    nodes: _Nodes,
    state: Mapping[str, NDArray[np.float32]],
    key: str,
    x: str,
    w: str,
    coarser: str | None,
    *,
    output: str | None = None,
) -> str:
    """`ToRGB`: the image of this resolution, float32, added to the coarser one."""
    kernel = state[f"{key}.conv.weight"][0]  # (3, C, 1, 1)
    x, _, largest = _modulated_input(nodes, state, f"{key}.conv", x, w)
    weight = nodes.constant(f"{key}.conv.weight", kernel / math.sqrt(kernel.shape[1]), is_picture=True)
    image = nodes.as_float32(nodes.add("Conv", x, weight, kernel_shape=[1, 1]))
    if largest is not None:
        image = nodes.add("Mul", image, nodes.add("Unsqueeze", largest, "last_axes"))
    image = nodes.add("Add", image, nodes.constant(f"{key}.bias", state[f"{key}.bias"]))
    if coarser is None:
        return image
    doubling = nodes.constant(f"{key}.upsample.kernel", np.tile(state[f"{key}.upsample.kernel"], (3, 1, 1, 1)))
    doubled = nodes.add("ConvTranspose", coarser, doubling, group=3, kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4)
    return nodes.add("Add", image, doubled, output=output)
