"""Counting zeros at either end of 64 bits, for kernels. Imports numba: import it lazily."""

from __future__ import annotations

from typing import Any

import numba as nb
from numba.core.typing.templates import Signature
from numba.extending import intrinsic


@intrinsic  # type: ignore[untyped-decorator]
def leading_zeros(typing_context: Any, value: Any) -> tuple[Signature, Any]:
    """Zeros above the highest 1 of an unsigned 64-bit integer; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Signature, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], nb.core.cgutils.false_bit)

    return nb.int64(nb.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(typing_context: Any, value: Any) -> tuple[Signature, Any]:
    """Zeros below the lowest 1 of an unsigned 64-bit integer; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Signature, arguments: Any) -> Any:
        return builder.cttz(arguments[0], nb.core.cgutils.false_bit)

    return nb.int64(nb.uint64), generate
