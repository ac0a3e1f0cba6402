"""Losses that compare a model's outputs with data: residual vectors, or their mean or sum of squares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch

Reduction: TypeAlias = Literal["mean", "sum", "none"]
Tensors: TypeAlias = Mapping[str, torch.Tensor]


def mse_loss(
    output: Tensors,
    target: Tensors,
    variables: Sequence[str] | None = None,
    timesteps: slice | None = None,
    reduction: Reduction = "none",
) -> torch.Tensor:
    """The differences between outputs and data.

    Args:
        output: variable -> tensor (T, ...), as `Behavior.forward()` returns it.
        target: variable -> data of the same shape, or one number for all of it.
        variables: which, and in what order. Default: all that both have, sorted.
        timesteps: the rows to compare. Default: all.
        reduction: `"none"`: the differences output - target, flattened, one variable after the other: the
            residuals that `LevenbergMarquardt` wants. `"mean"`, `"sum"`: of their squares.

    Returns:
        A vector, or a 0-d tensor.

    Raises:
        ValueError: a variable that one side lacks, shapes that differ, rows that there are not, or an
            unknown reduction.
    """
    found = _residuals(output, target, variables, timesteps)
    return _squares(torch.cat(list(found.values())), reduction)


def weighted_residuals(
    output: Tensors,
    target: Tensors,
    weights: Mapping[str, float],
    variables: Sequence[str] | None = None,
    timesteps: slice | None = None,
    reduction: Reduction = "none",
) -> torch.Tensor:
    """As `mse_loss`, each variable's squares multiplied by a weight.

    Args:
        weights: variable -> weight of at least 0; 1 for a variable that is not named. They are scaled
            to sum to the number of variables; the residuals carry their square roots.

    Others, result and errors: as for `mse_loss`; also a `ValueError` for a negative or infinite weight, for
    weights that are all 0, and for one of a variable that is not in the output.
    """
    found = _residuals(output, target, variables, timesteps)
    if unknown := set(weights) - set(output):
        raise ValueError(f"Weights for variables not in output: {unknown}.")
    factors = _normalised({name: weights.get(name, 1.0) for name in found})
    parts = [math.sqrt(factors[name]) * residuals for name, residuals in found.items()]
    return _squares(torch.cat(parts), reduction)


def composite_loss(
    output: Tensors,
    targets: Sequence[Any],
    loss_fns: Sequence[Callable[[Any, Any], torch.Tensor]],
    loss_weights: Sequence[float] | None = None,
    reduction: Reduction = "none",
) -> torch.Tensor:
    """Several losses as one.

    Args:
        output: variable -> tensor, handed to every loss.
        targets: what each loss is to compare with, handed to it as it is; None where it needs nothing.
        loss_fns: functions of (output, target).
        loss_weights: of at least 0, scaled to sum to their number. Default: all alike.
        reduction: `"none"`: the losses are vectors of residuals, which are joined, each multiplied by the
            square root of its weight. `"mean"`, `"sum"`: the weighted sum of the losses, each reduced to
            its mean or sum first (of what it returns, which is not squared).

    Raises:
        ValueError: sequences of different lengths or empty ones, a weight that is negative or infinite,
            weights that are all 0, a loss that is no vector where residuals are wanted, or an unknown
            reduction.
    """
    _check_reduction(reduction)
    if not loss_fns:
        raise ValueError("loss_fns is empty: there is nothing to combine.")
    if len(targets) != len(loss_fns):
        raise ValueError("targets and loss_fns must have the same length")
    if loss_weights is None:
        loss_weights = [1.0] * len(loss_fns)
    if len(loss_weights) != len(loss_fns):
        raise ValueError("loss_fns and loss_weights must have the same length")
    weights = _normalised(dict(enumerate(loss_weights)))
    losses = [fn(output, target) for fn, target in zip(loss_fns, targets, strict=True)]
    if reduction == "none":
        for loss in losses:
            if not isinstance(loss, torch.Tensor) or loss.dim() != 1:
                shown = f"shape {loss.shape}" if isinstance(loss, torch.Tensor) else repr(loss)
                raise ValueError(
                    f"With reduction='none', loss functions must return 1D tensors, got {shown}"
                )
        return torch.cat([math.sqrt(weights[i]) * loss for i, loss in enumerate(losses)])
    reduce = torch.mean if reduction == "mean" else torch.sum
    parts = [weights[i] * reduce(torch.as_tensor(loss)) for i, loss in enumerate(losses)]
    return torch.stack(parts).sum()


def _residuals(
    output: Tensors, target: Tensors, variables: Sequence[str] | None, timesteps: slice | None
) -> dict[str, torch.Tensor]:
    """Variable -> output - target in the chosen rows, flattened."""
    if variables is None:
        variables = sorted(set(output) & set(target))
        if not variables:
            raise ValueError(
                f"Output and target have no variable in common: {sorted(output)} and {sorted(target)}."
            )
    if isinstance(variables, str) or not variables:
        raise ValueError(f"variables must be a list of names, not {variables!r}.")
    for what, given in (("output", output), ("target", target)):
        if missing := set(variables) - set(given):
            raise ValueError(
                f"Variables not in {what}: {missing}. There are: {', '.join(sorted(given))}."
            )
    found = {}
    for name in variables:
        path = output[name]
        data = torch.as_tensor(target[name], device=path.device)
        if data.numel() != 1 and data.shape != path.shape:
            raise ValueError(
                f"The target of {name} has the shape {tuple(data.shape)}, the output "
                f"{tuple(path.shape)}: they must agree."
            )
        data = data.reshape(()) if data.shape != path.shape else data
        if timesteps is not None:
            path, data = path[timesteps], data[timesteps] if data.dim() else data
        if not path.numel():
            raise ValueError(f"timesteps {timesteps} leave no row of {name} to compare.")
        found[name] = (path - data).reshape(-1)
    return found


def _normalised(weights: Mapping[Any, float]) -> dict[Any, float]:
    """The weights scaled to sum to their number."""
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"Weights must be finite and at least 0; that of {name} is {weight}.")
    total = sum(weights.values())
    if total == 0:
        raise ValueError("All weights are 0: nothing would be compared.")
    return {name: weight * len(weights) / total for name, weight in weights.items()}


def _check_reduction(reduction: str) -> None:
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"Invalid reduction mode: {reduction}. Use 'none', 'mean' or 'sum'.")


def _squares(residuals: torch.Tensor, reduction: str) -> torch.Tensor:
    _check_reduction(reduction)
    if reduction == "none":
        return residuals
    squares = residuals.square()
    return squares.mean() if reduction == "mean" else squares.sum()
