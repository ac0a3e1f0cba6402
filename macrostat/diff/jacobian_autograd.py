"""Jacobians by automatic differentiation."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch.func import functional_call, jacfwd, jacrev

from .. import _engine
from . import _compiled
from ._loss import LossFn, evaluate, warn_constant
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
            ValueError: an unknown mode, a chunk size below 1. TypeError: a loss that returns no
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
        """As `compute`, with the dtype in which the loss sees a library model's outputs."""
        if _engine.is_compiled(self.model):
            point = _compiled.Point.of(self.model, self._scenario_id())
            transform = _compiled.reverse if mode == "rev" else _compiled.forward
            columns = transform(point, loss_fn, loss_dtype, chunk_size)
            found = point.by_tensor(columns, dtype)
        else:
            found = self._eager(loss_fn, mode, chunk_size)
        return JacobianResult(found, **describe(self.model))

    def _eager(self, loss_fn: LossFn, mode: str, chunk_size: int | None) -> dict[str, torch.Tensor]:
        behavior = self.model.get_model_training_instance(scenario=self.scenario)
        prefix = "params."
        params = {
            name: tensor.detach()
            for name, tensor in behavior.named_parameters()
            if name.startswith(prefix)
        }

        def loss(params: dict[str, torch.Tensor]) -> torch.Tensor:
            return evaluate(loss_fn, functional_call(behavior, params, ()))

        transform: Any = jacrev if mode == "rev" else jacfwd
        found = transform(loss, chunk_size=chunk_size)(params)
        if not any(bool((gradient != 0).any()) for gradient in found.values()):
            self._warn_if_constant(behavior, loss_fn)
        return {name.removeprefix(prefix): gradient.detach() for name, gradient in found.items()}

    @staticmethod
    def _warn_if_constant(behavior: Any, loss_fn: LossFn) -> None:
        for tensor in behavior.parameters():
            tensor.requires_grad_(True)
        if not evaluate(loss_fn, behavior()).requires_grad:
            warn_constant()
