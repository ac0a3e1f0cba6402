"""Evaluating a user's torch loss, with errors at the call that made the mistake."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeAlias

import torch

LossFn: TypeAlias = Callable[[dict[str, torch.Tensor]], torch.Tensor]


def evaluate(loss_fn: LossFn, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The loss as a real floating-point tensor of any shape.

    Raises:
        TypeError: the loss is not callable, or returns no tensor, or one of integers.
    """
    if not callable(loss_fn):
        raise TypeError(f"loss_fn must be a function of the output dict, not {loss_fn!r}.")
    loss = loss_fn(outputs)
    if not isinstance(loss, torch.Tensor):
        raise TypeError(f"loss_fn must return a torch.Tensor, not {type(loss).__name__}.")
    if not loss.dtype.is_floating_point:
        raise TypeError(
            f"loss_fn must return a real floating-point tensor, not {loss.dtype}: it has no derivative."
        )
    return loss


def warn_constant() -> None:
    warnings.warn(
        "The loss does not depend on the model's outputs through differentiable operations (is it a "
        "constant, or detached?): its Jacobian is zero.",
        UserWarning,
        stacklevel=4,
    )
