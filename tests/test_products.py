"""Promises of the matrix products on a CPU: exact within the rounding of their inputs, in every kind of block."""

import numpy as np
import pytest
import torch

from vidrestore.models.products import (
    NARROW_COLUMNS,
    THIN_COLUMNS,
    WIDE_COLUMNS,
    as_array,
    block_of,
    can_multiply,
    multiply,
    packed,
)

WIDE, NARROW, THIN = WIDE_COLUMNS, NARROW_COLUMNS, THIN_COLUMNS
DTYPES = [torch.float32] + [torch.bfloat16] * can_multiply(torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("depth", "num_columns"), [(2, WIDE), (64, 3 * WIDE), (6, NARROW), (40, 3 * NARROW), (8, THIN), (10, 3 * THIN)]
)
def test_products_are_those_of_the_inputs_as_they_are_kept(depth: int, num_columns: int, dtype: torch.dtype) -> None:
    torch.manual_seed(depth)
    block = block_of(num_columns)
    assert block is not None
    rows = 3 * block[0]
    a, b = torch.randn(3, rows, depth).to(dtype), torch.randn(3, depth, num_columns)
    product = np.full((3, rows, num_columns), np.nan, np.float32)
    multiply(as_array(a), as_array(packed(b, dtype)), product)
    expected = a.double() @ b.to(dtype).double()
    np.testing.assert_allclose(product, expected, atol=1e-5 * depth**0.5, rtol=0)


def test_a_width_that_is_not_made_of_blocks_is_told() -> None:
    assert block_of(WIDE + 1) is None
    assert block_of(THIN // 2) is None
