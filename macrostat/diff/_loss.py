"""Evaluating a user's torch loss, with errors and warnings at the call that made the mistake."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import torch

forward_mode = threading.RLock()
"""Held while torch differentiates forward: its levels of dual numbers are those of all threads."""

LossFn: TypeAlias = Callable[[dict[str, torch.Tensor]], torch.Tensor]


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Within it torch records, also where a caller is in `torch.no_grad` or, with all derivatives 0, in
    `torch.inference_mode`.
    """
    inside = torch.is_inference_mode_enabled()
    normal = torch.inference_mode(False) if inside else contextlib.nullcontext()
    with normal, torch.enable_grad():
        yield


def evaluate(loss_fn: LossFn, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The loss as a real floating-point tensor of any shape.

    Raises:
        TypeError: the loss is not callable, or returns no tensor, or one of integers. What the loss
            itself raises passes; a `KeyError` says which outputs there are.
    """
    if not callable(loss_fn):
        raise TypeError(f"loss_fn must be a function of the output dict, not {loss_fn!r}.")
    names = list(outputs)
    try:
        loss = loss_fn(outputs)
    except KeyError as error:
        error.add_note(f"The outputs of the model are: {', '.join(names)}.")
        raise
    if not isinstance(loss, torch.Tensor):
        raise TypeError(f"loss_fn must return a torch.Tensor, not {type(loss).__name__}.")
    if not loss.dtype.is_floating_point:
        raise TypeError(
            f"loss_fn must return a real floating-point tensor, not {loss.dtype}: it has no derivative."
        )
    return loss


def stack(losses: Iterable[torch.Tensor]) -> torch.Tensor:
    """Losses of several runs as one tensor.

    Raises:
        ValueError: they differ in shape (a mask that depends on the data, say).
    """
    losses = list(losses)
    if shapes := sorted({tuple(loss.shape) for loss in losses[1:]} - {tuple(losses[0].shape)}):
        raise ValueError(
            f"The loss has the shape {tuple(losses[0].shape)} at the parameters and {shapes[0]} near "
            "them: it has no derivative there."
        )
    return torch.stack(losses)


def warn(message: str) -> None:
    """Warns at the line outside of this package that led here."""
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_globals.get("__package__") == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def warn_constant() -> None:
    warn(
        "The loss does not depend on the model's outputs through differentiable operations (is it a "
        "constant, or detached?): its Jacobian is zero."
    )
