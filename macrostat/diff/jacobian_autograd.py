"""Jacobians by automatic differentiation."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from .. import _engine
from ..models._library import LibraryBehavior
from . import _compiled, _eager
from ._loss import LossFn, evaluate, recording
from ._result import JacobianResult, describe
from .jacobian_base import JacobianBase


class JacobianAutograd(JacobianBase):
    """The exact Jacobian of a loss with respect to the model's parameters.

    Library models run as one compiled program; a user's own torch `Behavior` runs in eager torch.
    """

    def compute(
        self, loss_fn: LossFn, mode: Literal["rev", "fwd"] = "rev", chunk_size: int | None = None
    ) -> dict[str, torch.Tensor]:
        """The derivative of `loss_fn(output)` with respect to every parameter.

        Args:
            loss_fn: any function from the output dict (name -> (timesteps + 1, n), in torch's default
                dtype) to a floating-point tensor of any shape.
            mode: `"rev"` costs a backward pass per element of the loss, `"fwd"` a tangent per parameter.
            chunk_size: how many loss elements (`"rev"`) or parameters (`"fwd"`) are done at once: less
                memory, more calls. Default: all.

        Returns:
            Tensor name (as in `Behavior.params`) -> (*loss shape, *parameter shape), in torch's default
            dtype. A parameter derived by a constraint has the derivative 0.

        Raises:
            ValueError: an unknown mode, a chunk size below 1. RuntimeError: a library model with
                `supports_differentiable = False`. TypeError: a loss that returns no
                floating-point tensor.
        """
        if mode not in ("rev", "fwd"):
            raise ValueError(f"Unsupported mode '{mode}'. Use 'rev' or 'fwd'.")
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, not {chunk_size}.")
        dtype = _engine.output_dtype(self.model.parameters.hyper)
        self.jacobian = self._compute(loss_fn, mode, chunk_size, dtype, dtype)
        return self.jacobian

    def _compute(
        self,
        loss_fn: LossFn,
        mode: str,
        chunk_size: int | None,
        loss_dtype: torch.dtype,
        dtype: torch.dtype,
    ) -> JacobianResult:
        """As `compute`, with the dtype in which the loss sees the outputs, and that of the result."""
        scenario = self._scenario_id()
        behavior = self.model.behavior
        if issubclass(behavior, LibraryBehavior) and not behavior.supports_differentiable:
            raise RuntimeError(
                f"{behavior.__name__} sets supports_differentiable=False: it has no gradients in torch. "
                "JacobianNumerical differences runs of the same random inputs; macrostat_jax.diff has "
                "the derivatives along a path."
            )
        with recording():
            if _engine.is_compiled(self.model):
                point = _compiled.Point.of(self.model, scenario)
                transform = _compiled.reverse if mode == "rev" else _compiled.forward
                columns = transform(point, loss_fn, loss_dtype, chunk_size)
                found = point.by_tensor(columns, dtype)
            else:
                found = _eager.jacobian(self.model, scenario, loss_fn, mode, chunk_size, loss_dtype)
                found = {name: gradient.to(dtype) for name, gradient in found.items()}
        return JacobianResult(found, **describe(self.model))

    def _loss(self, loss_fn: LossFn, dtype: torch.dtype) -> torch.Tensor:
        """The loss itself, of outputs in `dtype`."""
        scenario = self._scenario_id()
        if _engine.is_compiled(self.model):
            point = _compiled.Point.of(self.model, scenario)
            outputs = point.unpack(point.values(), dtype)
        else:
            outputs = next(
                _eager.runs(self.model, scenario, [], np.zeros((1, 0)), np.zeros(1, bool), dtype)
            )
        with torch.no_grad():
            return evaluate(loss_fn, outputs)
