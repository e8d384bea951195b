"""The nodes of an ONNX graph as they are added, and convolutions made of several.

What onnxruntime has for CPUs is direct convolution, close to what the cores can do. `convolved_by_rows` gets by with
half the multiplications: Winograd's F(4, 3) along the columns of the picture, for all of its rows' pixels at once.
Transposed convolutions it does by another way, at two thirds of that speed; `doubled_by_phases` makes them direct ones.
Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016 (arXiv:1509.09308).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vidrestore.models.gpen import LEAKY_SLOPE

Precision = Literal["float32", "float16"]
ROW_TRANSFORM = np.array(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0]]
    + [[0, 4, 0, -5, 0, 1]],
    np.float32,
)
"""(6, 6), Lavin and Gray's B^T: six rows of the picture to six to multiply."""
KERNEL_TRANSFORM = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
"""(6, 3), their G."""


class Nodes:
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

    def integers(self, name: str, values: Sequence[int]) -> str:
        self.initializers.append(numpy_helper.from_array(np.array(values, np.int64), name))
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

    def blur(self, x: str, key: str, kernel: NDArray[np.float32], channels: int, pads: Sequence[int]) -> str:
        """Each channel filtered alone by a (4, 4) kernel; pads are those above, left, below and right."""
        weight = self.constant(f"{key}.kernel", np.tile(kernel, (channels, 1, 1, 1)), is_picture=True)
        return self.add("Conv", x, weight, group=channels, kernel_shape=[4, 4], pads=list(pads))


def convolved_by_rows(nodes: Nodes, key: str, x: str, kernel: NDArray[np.float32], size_px: int) -> str:
    """x (N, C, S, S), kernel (C', C, 3, 3) -> (N, C', S, S), zero padding of 1, S a multiple of 4.

    Six rows of the picture make four of the output: six products, each a convolution along the row, in place of twelve.
    """
    num_out, num_in = kernel.shape[:2]

    def product(number: int) -> str:
        mixing = np.tile(ROW_TRANSFORM[number, :, None], (num_in, 1, 1, 1))
        filters = nodes.constant(f"{key}.mixing.kernel{number}", mixing, is_picture=True)
        rows = nodes.add(
            "Conv", x, filters, group=num_in, kernel_shape=[6, 1], strides=[4, 1], pads=[1, 0, 1, 0]
        )  # (N, C, S / 4, S)
        turned = np.einsum("t,oitw->oiw", KERNEL_TRANSFORM[number], kernel.astype(np.float64))
        weight = nodes.constant(f"{key}.weight{number}", turned[:, :, None].astype(np.float32), is_picture=True)
        return nodes.add("Conv", rows, weight, kernel_shape=[1, 3], pads=[0, 1, 0, 1])

    p0, p1, p2, p3, p4, p5 = (product(number) for number in range(6))
    sum1, difference1, sum2, difference2 = (
        nodes.add(operator, a, b) for a, b in ((p1, p2), (p3, p4)) for operator in ("Add", "Sub")
    )
    two, four, eight = (
        nodes.constant(f"{key}.{value}", np.array(value, np.float32), is_picture=True) for value in (2, 4, 8)
    )
    rows = (
        nodes.add("Add", p0, nodes.add("Add", sum1, sum2)),
        nodes.add("Add", difference1, nodes.add("Mul", difference2, two)),
        nodes.add("Add", sum1, nodes.add("Mul", sum2, four)),
        nodes.add("Add", p5, nodes.add("Add", difference1, nodes.add("Mul", difference2, eight))),
    )
    axis = nodes.integers(f"{key}.axis", [3])
    between = nodes.add("Concat", *(nodes.add("Unsqueeze", row, axis) for row in rows), axis=3)  # (N, C', S / 4, 4, S)
    return nodes.add("Reshape", between, nodes.integers(f"{key}.shape", [0, num_out, size_px, size_px]))


def doubled_by_phases(nodes: Nodes, key: str, x: str, kernel: NDArray[np.float32], size_px: int) -> str:
    """x (N, C, S / 2, S / 2), kernel (C', C, 3, 3) -> (N, C', S + 2, S + 2): a transposed convolution of stride 2.

    Its last row and column are zeros. Pixels of even rows (columns) see the kernel's first and last row (column), odd
    ones the middle: four convolutions, whose results lie between one another.
    """
    num_out, side_px = len(kernel), size_px // 2 + 1
    taps = {"even": [2, 0], "odd": [1]}

    def phase(rows: str, columns: str) -> str:
        part = kernel[:, :, taps[rows]][:, :, :, taps[columns]]
        weight = nodes.constant(f"{key}.weight.{rows}.{columns}", part, is_picture=True)
        height, width = part.shape[2:]
        result = nodes.add("Conv", x, weight, kernel_shape=[height, width], pads=[height - 1, width - 1, 1, 1])
        return nodes.add("Unsqueeze", result, between_columns)  # (N, C', S / 2 + 1, S / 2 + 1, 1)

    between_columns = nodes.integers(f"{key}.axis", [4])
    row_shape = nodes.integers(f"{key}.row_shape", [0, num_out, side_px, 1, 2 * side_px])
    rows = [
        nodes.add("Reshape", nodes.add("Concat", phase(rows, "even"), phase(rows, "odd"), axis=4), row_shape)
        for rows in taps
    ]
    between = nodes.add("Concat", *rows, axis=3)  # (N, C', S / 2 + 1, 2, S + 2)
    return nodes.add("Reshape", between, nodes.integers(f"{key}.shape", [0, num_out, 2 * side_px, 2 * side_px]))
