"""Numerical settings that a figure may not depend on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Real float32 in convolutions and matrix products: no TF32, no bfloat16 passes.

    Otherwise a figure would depend on the generation of the GPU or CPU, and on
    `torch.set_float32_matmul_precision`, which speeds training up.
    """
    backends: Any = torch.backends
    parts = [backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.conv, backends.mkldnn.matmul]
    before = [part.fp32_precision for part in parts]
    for part in parts:
        part.fp32_precision = "ieee"
    try:
        yield
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision
