"""How exactly training steps are computed; weights, optimisers and evaluations stay in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

from mechft.errors import unknown_name

Precision = Literal["float32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute what is inside with this precision.

    Args:
        precision: "float32" changes nothing. "tf32" rounds the factors of float32 matrix products to 10 bits
            of mantissa on GPUs that do so faster; elsewhere it changes nothing. "bf16" computes matrix
            products and attention in bfloat16 (8 bits, autocast); norms, softmax and losses stay in float32.
        device: Where it is computed.

    Raises:
        UnknownNameError: If the precision is none of these.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if precision == "bf16":
        with torch.autocast(device.type, torch.bfloat16):
            yield
        return
    before = torch.get_float32_matmul_precision()
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
