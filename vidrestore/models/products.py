"""Matrix products for the Winograd convolution, in the calling thread alone.

Between the transforms of a strip of tiles lie 36 products of (tiles, C) and (C, C'), small enough for the cache. The
loop at their heart is written in LLVM's own language, which numba takes in: a block of the result stays in vector
registers while the channels pass by. With AVX-512 it has 6 rows of 64 columns: 24 sums, three times what it takes to
hide the latency of a multiplication, and only 10 values are read for 24 multiplied. Libraries are made for larger
products: `tests/bench/products.py` compares MKL's.

In bfloat16 the sums are float32: only what is multiplied is rounded. (PyTorch would round the products as well.)
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

FEATURES = llvmlite.binding.get_host_cpu_features()
COMPILED_FOR = numba.config.CPU_NAME, numba.config.CPU_FEATURES  # type: ignore[attr-defined]
IS_COMPILED_FOR_HOST = not any(COMPILED_FOR)
"""Unless NUMBA_CPU_NAME or NUMBA_CPU_FEATURES ask for another processor's instructions."""
HAS_AVX512 = IS_COMPILED_FOR_HOST and bool(FEATURES.get("avx512f"))
HAS_BFLOAT16 = IS_COMPILED_FOR_HOST and bool(FEATURES.get("avx512bf16")) and not FEATURES.get("amx-bf16")
"""Whether pairs of bfloat16 are best multiplied in vectors. (Where there are matrix registers, oneDNN's convolutions in
bfloat16, which use them, have eight times the speed of float32.)"""
LANES = 16 if HAS_AVX512 else 8
"""float32 numbers in a vector. Where registers hold four (NEON), LLVM takes two for one."""
WIDE_ROWS, WIDE_VECTORS = (6, 4) if HAS_AVX512 else (6, 2)
NARROW_ROWS, NARROW_VECTORS = (14, 2) if HAS_AVX512 else (12, 1)
THIN_ROWS, THIN_VECTORS = (24, 1) if HAS_AVX512 else (12, 1)
"""Blocks of the result that fill the 32 registers of AVX-512, or the 16 of AVX2, and leave a few for what is read."""
WIDE_COLUMNS, NARROW_COLUMNS, THIN_COLUMNS = (n * LANES for n in (WIDE_VECTORS, NARROW_VECTORS, THIN_VECTORS))


def compiled(loops: Callable[..., None]) -> Callable[..., None]:
    """By numba, to run without holding Python's lock."""
    try:
        return numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)(loops)
    except RuntimeError:  # no folder can be written to: compile anew each time
        return numba.njit(nogil=True, fastmath=True, error_model="numpy")(loops)


def block_of(num_columns: int) -> tuple[int, int] | None:
    """(rows, columns) of the blocks for a matrix so wide; None where no kind divides it."""
    blocks = ((WIDE_ROWS, WIDE_COLUMNS), (NARROW_ROWS, NARROW_COLUMNS), (THIN_ROWS, THIN_COLUMNS))
    return next((block for block in blocks if num_columns % block[1] == 0), None)


def can_multiply(dtype: torch.dtype) -> bool:
    """Whether this processor does it fast."""
    return dtype == torch.float32 or (dtype == torch.bfloat16 and HAS_BFLOAT16)


def packed(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """(P, C, C') float -> (P, C' / columns, C, columns) float32, or (P, C' / columns, C / 2, columns, 2) bfloat16.

    C' must be a multiple of the columns of a block, and C be even for bfloat16.
    """
    positions, depth, num_columns = matrices.shape
    block = block_of(num_columns)
    assert block is not None, f"{num_columns} columns are not made of blocks"
    panels = matrices.to(dtype).view(positions, depth, num_columns // block[1], block[1]).transpose(1, 2)
    if dtype == torch.bfloat16:
        panels = panels.reshape(positions, -1, depth // 2, 2, block[1]).transpose(3, 4)
    return panels.contiguous()


def as_array(tensor: Tensor) -> Array:
    """Without a copy; NumPy knows no bfloat16: its bits, as uint16."""
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy().view(np.uint16))
    return np.asarray(tensor.numpy())


class BFloat16(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat16)

    def __hash__(self) -> int:
        return hash(BFloat16)


def stored_as(_typing: Any, value: Any, like: Any) -> Any:
    """A numba intrinsic: a float32 as that array keeps it: as it is, or rounded to bfloat16 (uint16)."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        if like.dtype == types.float32:
            return arguments[0]
        return builder.bitcast(builder.fptrunc(arguments[0], BFloat16()), ir.IntType(16))

    return like.dtype(types.float32, like), emit


def number_of(_typing: Any, value: Any) -> Any:
    """A numba intrinsic: what an array keeps as float32 or bfloat16 (uint16), as float32."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        if value == types.float32:
            return arguments[0]
        high = builder.shl(builder.zext(arguments[0], ir.IntType(32)), ir.IntType(32)(16))
        return builder.bitcast(high, ir.FloatType())

    return types.float32(value), emit


stored: Any = intrinsic(stored_as)
number: Any = intrinsic(number_of)


def block_product(rows: int, vectors: int) -> Any:
    """A numba intrinsic: c[:rows, :columns] = a[:rows] @ b, for addresses and strides counted in elements of 4 bytes.

    a: rows of `depth` elements, each a float32 or a pair of bfloat16; b: (depth, columns) elements without gaps; c:
    float32. An array handed in first tells by its type which it is.
    """

    def emit_for(bfloat16: bool) -> Callable[..., ir.Value]:
        def emit(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
            return emit_block(context, builder, arguments[1:], rows, vectors, bfloat16=bfloat16)

        return emit

    def block(_typing: Any, like: Any, a: Any, a_stride: Any, b: Any, c: Any, c_stride: Any, depth: Any) -> Any:
        return types.void(like, *[types.intp] * 6), emit_for(like.dtype == types.uint16)

    return intrinsic(block)


def emit_block(
    context: Any, builder: ir.IRBuilder, arguments: Any, rows: int, vectors: int, *, bfloat16: bool
) -> ir.Value:
    a, a_stride, b, c, c_stride, depth = arguments
    int32, int64 = ir.IntType(32), ir.IntType(64)
    sums_type = ir.VectorType(ir.FloatType(), LANES)
    element = int32 if bfloat16 else ir.FloatType()
    vector = ir.VectorType(element, LANES)
    factor = ir.VectorType(BFloat16(), 2 * LANES) if bfloat16 else vector
    name = "llvm.x86.avx512bf16.dpbf16ps.512" if bfloat16 else f"llvm.fmuladd.v{LANES}f32"
    operation = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(sums_type, [sums_type, factor, factor]), name
    )
    a, b = (builder.inttoptr(address, element.as_pointer()) for address in (a, b))
    c = builder.inttoptr(c, ir.FloatType().as_pointer())
    a_rows = [builder.gep(a, [builder.mul(a_stride, int64(row))]) for row in range(rows)]
    before = builder.block
    loop, after = builder.append_basic_block("channels"), builder.append_basic_block("store")
    builder.branch(loop)

    builder.position_at_end(loop)
    k, b_row = builder.phi(int64), builder.phi(b.type)
    k.add_incoming(int64(0), before)
    b_row.add_incoming(b, before)
    sums = [[builder.phi(sums_type) for _ in range(vectors)] for _ in range(rows)]
    columns = [
        builder.bitcast(builder.load(pointer_to(builder, b_row, vector, number * LANES), align=4), factor)
        for number in range(vectors)
    ]
    undefined = ir.Constant(vector, ir.Undefined)
    first_lane = ir.Constant(ir.VectorType(int32, LANES), [0] * LANES)
    results = []
    for a_row, row_sums in zip(a_rows, sums, strict=True):
        one = builder.insert_element(undefined, builder.load(builder.gep(a_row, [k])), int32(0))
        same = builder.bitcast(builder.shuffle_vector(one, undefined, first_lane), factor)
        pairs = zip(columns, row_sums, strict=True)
        results.append([builder.call(operation, [s, same, x] if bfloat16 else [same, x, s]) for x, s in pairs])
    next_k = builder.add(k, int64(1))
    k.add_incoming(next_k, loop)
    b_row.add_incoming(builder.gep(b_row, [int64(vectors * LANES)]), loop)
    for row_sums, row_results in zip(sums, results, strict=True):
        for total, result in zip(row_sums, row_results, strict=True):
            total.add_incoming(ir.Constant(sums_type, [0.0] * LANES), before)
            total.add_incoming(result, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, depth), loop, after)

    builder.position_at_end(after)
    for row, row_results in enumerate(results):
        c_row = builder.gep(c, [builder.mul(c_stride, int64(row))])
        for number, result in enumerate(row_results):
            builder.store(result, pointer_to(builder, c_row, sums_type, number * LANES), align=4)
    return context.get_dummy_value()


def pointer_to(builder: ir.IRBuilder, start: ir.Value, kind: ir.Type, offset: int) -> ir.Value:
    """To a value of that kind, `offset` elements after the start."""
    return builder.bitcast(builder.gep(start, [ir.IntType(64)(offset)]), kind.as_pointer())


wide_product = block_product(WIDE_ROWS, WIDE_VECTORS)
narrow_product = block_product(NARROW_ROWS, NARROW_VECTORS)
thin_product = block_product(THIN_ROWS, THIN_VECTORS)


@compiled
def multiply(a: Array, b: Array, c: Array) -> None:
    """c (P, T, C') = a (P, T, C) @ b, which is `packed`; T is a multiple of a block's rows. See `as_array`."""
    positions, rows, panels, columns = a.shape[0], a.shape[1], b.shape[1], b.shape[3]
    depth = a.shape[2] * a.itemsize // 4
    stride = panels * columns
    for p in range(positions):
        for panel in range(panels):
            b_address = b.ctypes.data + 4 * (p * panels + panel) * depth * columns
            a_address = a.ctypes.data + 4 * p * rows * depth
            c_address = c.ctypes.data + 4 * (p * rows * stride + panel * columns)
            if columns == WIDE_COLUMNS:
                for row in range(0, rows, WIDE_ROWS):
                    a_row, c_row = a_address + 4 * row * depth, c_address + 4 * row * stride
                    wide_product(a, a_row, depth, b_address, c_row, stride, depth)
            elif columns == NARROW_COLUMNS:
                for row in range(0, rows, NARROW_ROWS):
                    a_row, c_row = a_address + 4 * row * depth, c_address + 4 * row * stride
                    narrow_product(a, a_row, depth, b_address, c_row, stride, depth)
            else:
                for row in range(0, rows, THIN_ROWS):
                    a_row, c_row = a_address + 4 * row * depth, c_address + 4 * row * stride
                    thin_product(a, a_row, depth, b_address, c_row, stride, depth)
