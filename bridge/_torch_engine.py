"""The torch engine: models of this library run by torch alone, and differentiated by torch alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jax.lax import RoundingMethod

from macrostat_jax.engines import Engine


def _divide(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Quotients; of whole numbers cut, and -1 where the divisor is 0, as XLA has them."""
    if a.is_floating_point():
        return torch.div(a, b)
    safe = torch.where((b == 0) | (b == -1), 1, b)  # by -1 the least number has no quotient
    cut = torch.where(b == -1, -a, torch.div(a, safe, rounding_mode="trunc"))
    return torch.where(b == 0, -1, cut)


def _remainder(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """What the quotient leaves; of whole numbers everything, where the divisor is 0."""
    if a.is_floating_point():
        return torch.fmod(a, b)
    left = torch.fmod(a, torch.where((b == 0) | (b == -1), 1, b))
    return torch.where(b == 0, a, left)


def _sign(x: torch.Tensor) -> torch.Tensor:
    return torch.where((x == 0) | torch.isnan(x), x, torch.sign(x))


ELEMENTWISE: dict[str, Callable[..., torch.Tensor]] = {
    "add": torch.add,
    "add_any": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": _divide,
    "rem": _remainder,
    "neg": torch.neg,
    "abs": torch.abs,
    "sign": _sign,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "max": torch.maximum,
    "min": torch.minimum,
    "pow": torch.pow,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "square": torch.square,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "asin": torch.asin,
    "acos": torch.acos,
    "atan": torch.atan,
    "atan2": torch.atan2,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "logistic": torch.sigmoid,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "erf_inv": torch.erfinv,
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "is_finite": torch.isfinite,
    "and": torch.bitwise_and,
    "or": torch.bitwise_or,
    "xor": torch.bitwise_xor,
    "not": torch.bitwise_not,
}

REDUCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "reduce_sum": lambda x, dim: torch.sum(x, dim, dtype=x.dtype),
    "reduce_max": torch.amax,
    "reduce_min": torch.amin,
    "reduce_and": torch.all,
    "reduce_or": torch.any,
}


class Torch(Engine):
    """Tensors of torch, for `macrostat_jax.engines.simulate` and `jacobian`.

    Args:
        device: where constants are put; tensors that are handed in stay where they are.
        mode: how `jacobian` differentiates: `"autograd"` (reverse, `torch.autograd`), or torch.func's
            `"jacrev"` or `"jacfwd"`.
    """

    name = "torch"

    def __init__(
        self,
        device: torch.device | str = "cpu",
        mode: Literal["autograd", "jacrev", "jacfwd"] = "autograd",
    ) -> None:
        if mode not in ("autograd", "jacrev", "jacfwd"):
            raise ValueError(f"mode must be 'autograd', 'jacrev' or 'jacfwd', not {mode!r}.")
        self.device, self.mode = torch.device(device), mode

    def _method(self, name: str) -> Callable[..., Any] | None:
        if (function := ELEMENTWISE.get(name)) is not None:
            return lambda *values, **_: function(*values)
        if (function := REDUCTIONS.get(name)) is not None:
            return lambda x, *, axes, **_: function(x, dim=tuple(axes)) if axes else x
        return super()._method(name)

    def asarray(self, value: Any) -> torch.Tensor:
        return torch.tensor(np.asarray(value), device=self.device)

    def numpy(self, value: torch.Tensor) -> np.ndarray:
        return value.detach().cpu().numpy()

    def astype(self, value: torch.Tensor, dtype: np.dtype) -> torch.Tensor:
        kind = torch.from_numpy(np.zeros(0, dtype)).dtype
        if not value.is_floating_point() or dtype.kind not in "iu":
            return value.to(kind)
        # Beyond whole numbers are the last of them, and NaN is 0, as XLA has it.
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        inside = torch.where((value > least) & (value < most), value, 0).to(kind)
        return torch.where(value >= most, most, torch.where(value <= least, least, inside)).to(kind)

    def reshape_to(self, value: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        return torch.reshape(value, tuple(shape))

    def permute(self, value: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        return torch.permute(value, tuple(axes))

    def broadcast_to(self, value: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        return value.expand(tuple(shape))

    def join(self, values: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
        return torch.cat(tuple(values), axis)

    def stack(self, *values: torch.Tensor, axis: int = 0, **_: Any) -> torch.Tensor:
        return torch.stack(values, axis)

    def take(self, value: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return value[positions]

    def added_at(
        self, value: torch.Tensor, positions: torch.Tensor, updates: torch.Tensor
    ) -> torch.Tensor:
        return value.index_add(0, positions, updates)

    def matmul(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.matmul(a, b)

    def linear_solve(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.linalg.solve(a, b)

    def select_n(self, which: torch.Tensor, *cases: torch.Tensor, **_: Any) -> torch.Tensor:
        result = cases[0]
        if which.dtype == torch.bool:
            return torch.where(which, cases[1], result)
        for number, case in enumerate(cases[1:], 1):
            result = torch.where(which == number, case, result)
        return result

    def round(self, x: torch.Tensor, *, rounding_method: Any, **_: Any) -> torch.Tensor:
        if rounding_method == RoundingMethod.TO_NEAREST_EVEN:
            return torch.round(x)
        away = torch.trunc(x) + torch.sign(x)
        return torch.where(torch.abs(x - torch.trunc(x)) == 0.5, away, torch.round(x))

    def clamp(self, low: Any, x: torch.Tensor, high: Any, **_: Any) -> torch.Tensor:
        # Not torch.clamp: at a bound it has the derivative of the inside, and JAX has not.
        fixed = torch.minimum(torch.maximum(x, low), high).detach()
        within = torch.where((x > low) & (x < high), x, fixed)
        below = torch.where((low > x) & (low < high), low, within)
        return torch.where((x > high) & (fixed == high), high, below)

    def integer_pow(self, x: torch.Tensor, *, y: int, **_: Any) -> torch.Tensor:
        return torch.pow(x, y)

    def stop_gradient(self, x: torch.Tensor, **_: Any) -> torch.Tensor:
        return x.detach()

    def reduce_prod(self, x: torch.Tensor, *, axes: Any, **_: Any) -> torch.Tensor:
        for axis in sorted(axes, reverse=True):
            x = torch.prod(x, axis, dtype=x.dtype)
        return x

    def argmin(self, x: torch.Tensor, *, axes: Any, index_dtype: Any, **_: Any) -> torch.Tensor:
        return self.astype(torch.argmin(x, axes[0]), np.dtype(index_dtype))

    def argmax(self, x: torch.Tensor, *, axes: Any, index_dtype: Any, **_: Any) -> torch.Tensor:
        return self.astype(torch.argmax(x, axes[0]), np.dtype(index_dtype))

    def cumsum(self, x: torch.Tensor, *, axis: int, reverse: bool = False, **_: Any) -> Any:
        if reverse:
            return torch.flip(torch.cumsum(torch.flip(x, (axis,)), axis, dtype=x.dtype), (axis,))
        return torch.cumsum(x, axis, dtype=x.dtype)

    def jacobian(
        self, engine: Any, program: Any, x: Sequence[np.ndarray]
    ) -> list[list[np.ndarray]]:
        """Output -> input -> (*output shape, *input shape), by torch's own differentiation."""
        given = tuple(self.asarray(one) for one in x)

        def outputs(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(out.to(given[0].dtype) for out in self.run(program, *values))

        every = tuple(range(len(given)))
        if self.mode == "autograd":
            found = torch.autograd.functional.jacobian(outputs, given, vectorize=False)
        elif self.mode == "jacrev":
            found = torch.func.jacrev(outputs, argnums=every)(*given)
        else:
            found = torch.func.jacfwd(outputs, argnums=every)(*given)
        return [[self.numpy(block) for block in row] for row in found]
