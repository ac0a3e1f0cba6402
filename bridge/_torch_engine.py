"""The torch engine: models of this library run by torch alone, and differentiated by torch alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jax.lax import RoundingMethod

from macrostat_jax.engines import Engine


def _divide(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")


ELEMENTWISE: dict[str, Callable[..., torch.Tensor]] = {
    "add": torch.add,
    "add_any": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": _divide,
    "rem": torch.fmod,
    "neg": torch.neg,
    "abs": torch.abs,
    "sign": torch.sign,
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
    "reduce_sum": torch.sum,
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
        return value.to(torch.from_numpy(np.zeros(0, dtype)).dtype)

    def reshape_to(self, value: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        return torch.reshape(value, tuple(shape))

    def permute(self, value: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        return torch.permute(value, tuple(axes))

    def broadcast_to(self, value: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        return value.expand(tuple(shape))

    def join(self, values: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
        return torch.cat(tuple(values), axis)

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
        return torch.where(x <= low, low, torch.where(x >= high, high, x))

    def integer_pow(self, x: torch.Tensor, *, y: int, **_: Any) -> torch.Tensor:
        return torch.pow(x, y)

    def stop_gradient(self, x: torch.Tensor, **_: Any) -> torch.Tensor:
        return x.detach()

    def reduce_prod(self, x: torch.Tensor, *, axes: Any, **_: Any) -> torch.Tensor:
        for axis in sorted(axes, reverse=True):
            x = torch.prod(x, axis)
        return x

    def argmin(self, x: torch.Tensor, *, axes: Any, **_: Any) -> torch.Tensor:
        return torch.argmin(x, axes[0])

    def argmax(self, x: torch.Tensor, *, axes: Any, **_: Any) -> torch.Tensor:
        return torch.argmax(x, axes[0])

    def cumsum(self, x: torch.Tensor, *, axis: int, reverse: bool = False, **_: Any) -> Any:
        if reverse:
            return torch.flip(torch.cumsum(torch.flip(x, (axis,)), axis), (axis,))
        return torch.cumsum(x, axis)

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
