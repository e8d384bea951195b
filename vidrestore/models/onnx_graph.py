"""GPEN as an ONNX graph: the function of `models/gpen.py`, spelled in ONNX operators.

It is written out instead of traced from the module. A trace fixes the batch, repeats on every face what can be folded
into the weights once, and takes most of a minute; and the form that is fastest for PyTorch is not the form that is
fastest here. `models/export.py` holds the two equal, at every export.

Scales and gains are folded into the weights (a leaky ReLU commutes with a positive factor). The sums of squares that
demodulation needs are left to the runtime, which computes them once, when it loads. In float16, convolutions and what
lies between them are float16; styles, demodulation and the sum of the RGB images stay float32, and so do input and
output. A style is then divided by its largest value before it scales a picture, and the result multiplied by it, so
that nothing overflows on the way.

A file for the CPU alone (`for_cpu`) computes large convolutions in parts (`onnx_nodes.py`). It is for float32.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from vidrestore.models.gpen import ACTIVATION_GAIN, EPSILON, MAPPING_LR_MULTIPLIER, Gpen, GpenConfig
from vidrestore.models.onnx_nodes import Nodes, Precision, convolved_by_rows, doubled_by_phases

OPSET = 17
"""Of the standard operators; onnxruntime reads it since 1.12 (2022), TensorRT since 8.6."""
IR_VERSION = 8
"""The file format that came with the opset."""
GRAPH_VERSION = 2
"""Raised with every change of the graph, so that files made before it are not taken for it."""
INPUT, OUTPUT = "input", "output"
"""Both (N, 3, S, S) float32 RGB in [-1, 1]."""
BATCH = "N"
"""Name of the first axis where it is dynamic."""
IN_PARTS_MIN_CHANNELS = 64
"""Of the output, for `for_cpu`. One thread, ms without and with, by rows: 1024 -> 512 channels of 64 px 339 and 190,
512 -> 256 of 128 px 362 and 202, 256 -> 128 of 256 px 382 and 229, 128 -> 64 of 512 px 385 and 305; by phases: 1024 ->
512 to 64 px 139 and 95, 1024 -> 256 to 128 px 251 and 194, 256 -> 64 to 512 px 273 and 267."""
IN_PARTS_MIN_PX = 32
"""Smaller pictures take no time anyway."""


def gpen_graph(
    net: Gpen, *, precision: Precision, dynamic_batch: bool, metadata: Mapping[str, str], for_cpu: bool = False
) -> onnx.ModelProto:
    """The network as one self-contained model; its batch axis is `BATCH`, or 1.

    `for_cpu`: in the form that is fastest on CPUs and slower on GPUs; it changes nothing in float16.
    Raises ValueError for a weight that does not fit into float16.
    """
    state = {key: tensor.detach().cpu().float().numpy() for key, tensor in net.state_dict().items()}
    size_px, batch = net.config.size_px, BATCH if dynamic_batch else 1
    image = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, size_px, size_px]) for name in (INPUT, OUTPUT)
    ]
    nodes = Nodes(precision)
    _restore(nodes, state, net.config, for_cpu=for_cpu and precision == "float32")
    graph = helper.make_graph(nodes.nodes, "gpen", [image[0]], [image[1]], nodes.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="vidrestore")
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(metadata))
    return model


def _restore(nodes: Nodes, state: Mapping[str, NDArray[np.float32]], config: GpenConfig, *, for_cpu: bool) -> None:
    """From `INPUT` to `OUTPUT`; the same order as `Gpen.forward`."""
    nodes.integers("last_axes", [2, 3])
    nodes.integers("channel_axis", [1])
    nodes.integers("pixels_in_a_row", [0, 0, -1])
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
    x = _styled(nodes, state, "generator.conv1", x, w, features[-1], size_px=4)
    image = _to_rgb(nodes, state, "generator.to_rgb1", x, w, None, size_px=4)
    num_levels = len(config.resolutions_px) - 1
    for level, size_px in enumerate(config.resolutions_px[1:]):
        finer = features[-2 - level]
        x = _styled(
            nodes, state, f"generator.convs.{2 * level}", x, w, finer, size_px=size_px, upsample=True, for_cpu=for_cpu
        )
        x = _styled(nodes, state, f"generator.convs.{2 * level + 1}", x, w, finer, size_px=size_px, for_cpu=for_cpu)
        output = OUTPUT if level == num_levels - 1 else None
        image = _to_rgb(nodes, state, f"generator.to_rgbs.{level}", x, w, image, size_px=size_px, output=output)


def _encoded(nodes: Nodes, state: Mapping[str, NDArray[np.float32]], config: GpenConfig) -> Sequence[str]:
    """The encoder's features, fine to coarse."""
    x = nodes.as_picture(INPUT)
    features = []
    for level in range(len(config.resolutions_px)):
        first = 0 if level == 0 else 1  # from ecd1 on, a blur stands before the convolution
        kernel = state[f"ecd{level}.0.{first}.weight"]
        num_out, num_in, side = kernel.shape[:3]
        if level > 0:
            x = nodes.blur(x, f"ecd{level}.0.0", state[f"ecd{level}.0.0.kernel"], num_in, pads=[2] * 4)
        scale = ACTIVATION_GAIN / math.sqrt(num_in * side**2)
        weight = nodes.constant(f"ecd{level}.0.{first}.weight", kernel * scale, is_picture=True)
        bias_key = f"ecd{level}.0.{first + 1}.bias"
        bias = nodes.constant(bias_key, state[bias_key] * ACTIVATION_GAIN, is_picture=True)
        stride = 1 if level == 0 else 2
        x = nodes.leaky_relu(nodes.add("Conv", x, weight, bias, kernel_shape=[side] * 2, strides=[stride] * 2))
        features.append(x)
    return features


def _style(nodes: Nodes, state: Mapping[str, NDArray[np.float32]], key: str, w: str) -> tuple[str, str | None]:
    """(what each channel is scaled by (N, C), what that was divided by (N, 1) or None)."""
    style_dim = state[f"{key}.modulation.weight"].shape[1]
    style = nodes.linear(w, state, f"{key}.modulation", 1 / math.sqrt(style_dim), 1.0)
    if nodes.picture_dtype == np.float32:
        return style, None
    largest = nodes.add("ReduceMax", nodes.add("Abs", style), axes=[1], keepdims=1)
    largest = nodes.add("Max", largest, "epsilon")  # a style of zeros stays one
    return nodes.add("Div", style, largest), largest


def _styled(
    nodes: Nodes,
    state: Mapping[str, NDArray[np.float32]],
    key: str,
    x: str,
    w: str,
    features: str,
    *,
    size_px: int,
    upsample: bool = False,
    for_cpu: bool = False,
) -> str:
    """`StyledConv`: modulated convolution, the encoder's features beside its output, bias and leaky ReLU.

    `size_px`: side of the output; `for_cpu`: large convolutions in parts, as `onnx_nodes.py` has them.
    """
    kernel = state[f"{key}.conv.weight"][0]  # (C_out, C_in, 3, 3)
    num_out, num_in = kernel.shape[:2]
    kernel = kernel / math.sqrt(num_in * 9)
    style, largest = _style(nodes, state, f"{key}.conv", w)
    x = nodes.add("Mul", x, nodes.per_channel(style))
    in_parts = for_cpu and num_out >= IN_PARTS_MIN_CHANNELS and size_px >= IN_PARTS_MIN_PX
    if in_parts:
        power = nodes.constant(f"{key}.conv.power", np.square(kernel).sum(axis=(2, 3)).T)
        convolved = doubled_by_phases if upsample else convolved_by_rows
        x = convolved(nodes, f"{key}.conv", x, kernel, size_px)
    else:  # a transposed convolution wants (C_in, C_out, 3, 3)
        weight = nodes.constant(
            f"{key}.conv.weight", kernel.transpose(1, 0, 2, 3) if upsample else kernel, is_picture=True
        )
        power = nodes.add("ReduceSumSquare", nodes.as_float32(weight), axes=[2, 3], keepdims=0)
        if upsample:
            x = nodes.add("ConvTranspose", x, weight, kernel_shape=[3, 3], strides=[2, 2])
        else:
            x = nodes.add("Conv", x, weight, kernel_shape=[3, 3], pads=[1] * 4)
    if upsample:  # what is doubled by phases has a row and a column of zeros at the end already
        pads = [1, 1, 0, 0] if in_parts else [1] * 4
        x = nodes.blur(x, f"{key}.conv.blur", state[f"{key}.conv.blur.kernel"], num_out, pads=pads)

    # 1 / sqrt(sum over (i, k, k) of (w * s_i)^2 + epsilon), and the gain of the activation.
    norm = nodes.add(
        "Gemm", nodes.add("Mul", style, style), power, transB=0 if upsample or in_parts else 1
    )  # (N, C_out)
    epsilon = "epsilon"
    if largest is not None:  # the style was divided by it, so that epsilon must be as well
        epsilon = nodes.add("Div", "epsilon", nodes.add("Mul", largest, largest))
    demodulation = nodes.add("Div", "activation_gain", nodes.add("Sqrt", nodes.add("Add", norm, epsilon)))
    x = nodes.add("Mul", x, nodes.per_channel(demodulation))

    bias = (state[f"{key}.activate.bias"] * ACTIVATION_GAIN).reshape(2, num_out, 1, 1)
    own_bias = nodes.constant(f"{key}.own_bias", bias[0], is_picture=True)
    own = nodes.leaky_relu(nodes.add("Add", x, own_bias))
    gain = state[f"{key}.noise.weight"] * ACTIVATION_GAIN
    if in_parts:  # a convolution of each channel alone: the encoder's features then need not change their layout
        filters = nodes.constant(f"{key}.feature_gain.kernel", np.tile(gain, (num_out, 1, 1, 1)))
        feature_bias = nodes.constant(f"{key}.feature_bias", bias[1].flatten())
        beside = nodes.add("Conv", features, filters, feature_bias, group=num_out, kernel_shape=[1, 1])
    else:
        feature_gain = nodes.constant(f"{key}.feature_gain", gain, is_picture=True)
        feature_bias = nodes.constant(f"{key}.feature_bias", bias[1], is_picture=True)
        beside = nodes.add("Add", nodes.add("Mul", features, feature_gain), feature_bias)
    return nodes.add("Concat", own, nodes.leaky_relu(beside), axis=1)


def _to_rgb(
    nodes: Nodes,
    state: Mapping[str, NDArray[np.float32]],
    key: str,
    x: str,
    w: str,
    coarser: str | None,
    *,
    size_px: int,
    output: str | None = None,
) -> str:
    """`ToRGB`: the image of this resolution, float32, added to the coarser one."""
    kernel = state[f"{key}.conv.weight"][0, :, :, 0, 0]  # (3, C)
    style, largest = _style(nodes, state, f"{key}.conv", w)
    weight = nodes.constant(f"{key}.conv.weight", kernel / math.sqrt(kernel.shape[1]))
    # A kernel of three rows for each face is much smaller than the picture.
    kernels = nodes.as_picture(nodes.add("Mul", weight, nodes.add("Unsqueeze", style, "channel_axis")))  # (N, 3, C)
    image = nodes.add("MatMul", kernels, nodes.add("Reshape", x, "pixels_in_a_row"))  # (N, 3, H * W)
    image = nodes.as_float32(nodes.add("Reshape", image, nodes.integers(f"{key}.shape", [0, 3, size_px, size_px])))
    if largest is not None:
        image = nodes.add("Mul", image, nodes.add("Unsqueeze", largest, "last_axes"))
    image = nodes.add("Add", image, nodes.constant(f"{key}.bias", state[f"{key}.bias"]))
    if coarser is None:
        return image
    doubling = nodes.constant(f"{key}.upsample.kernel", np.tile(state[f"{key}.upsample.kernel"], (3, 1, 1, 1)))
    doubled = nodes.add("ConvTranspose", coarser, doubling, group=3, kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4)
    return nodes.add("Add", image, doubled, output=output)
