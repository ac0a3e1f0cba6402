"""Jacobians by finite differences: the second opinion."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from macrostat_jax._progress import progress
from macrostat_jax.diff._kinks import kinks
from macrostat_jax.diff._stencil import Stencil

from .. import _engine
from . import _compiled, _eager
from ._loss import LossFn, evaluate, stack, warn
from ._result import JacobianResult, describe
from .jacobian_base import JacobianBase


class Differences(NamedTuple):
    """Finite differences by parameter name.

    Attributes:
        values, errors: derivatives and their error estimates.
        kinks: how far the derivatives to the left and to the right are apart.
        eps: the unit round-off of the losses.
    """

    values: dict[str, torch.Tensor]
    errors: dict[str, torch.Tensor]
    kinks: dict[str, torch.Tensor]
    eps: float


class JacobianNumerical(JacobianBase):
    """Finite differences of a loss with respect to the model's scalar parameters.

    Every perturbed run of a library model is part of one batched, compiled simulation in float64; a
    user's own torch `Behavior` is run in a loop. No process is started.

    Args:
        model, scenario: as in `JacobianBase`.
        epsilon: the step, finite and greater than 0. In log space a parameter moves by the factor
            exp(+-epsilon), in direct space by +-epsilon.
        parameter_space: `"log"` or `"direct"`. Both give dL/dp.

    Attributes:
        errors: after `compute(..., error_estimates=True)`, name -> error estimate.

    Raises:
        ValueError: an unknown space, an epsilon that is no step, an unknown scenario.
    """

    def __init__(
        self,
        model: Any,
        scenario: int | str = 0,
        epsilon: float = 1e-3,
        parameter_space: Literal["direct", "log"] = "log",
    ) -> None:
        super().__init__(model, scenario)
        if not (isinstance(epsilon, Real) and math.isfinite(epsilon) and epsilon > 0):
            raise ValueError(f"epsilon must be finite and greater than 0, not {epsilon}.")
        if parameter_space not in ("direct", "log"):
            raise ValueError(
                f"Unsupported parameter_space '{parameter_space}'. Use 'direct' or 'log'."
            )
        self.epsilon = float(epsilon)
        self.parameter_space = parameter_space
        self.errors: dict[str, torch.Tensor] | None = None

    def compute(
        self,
        loss_fn: LossFn,
        mode: Literal["central", "forward", "backward"] = "central",
        num_workers: int | None = None,
        progress_bar: bool = False,
        param_names: Sequence[str] | None = None,
        *,
        error_estimates: bool = False,
    ) -> dict[str, torch.Tensor]:
        """The derivative of `loss_fn(output)` with respect to each named parameter.

        Args:
            loss_fn: as in `JacobianAutograd.compute`; it sees float64 outputs (a loss that refuses them
                is evaluated in torch's default dtype, with a warning).
            mode: the kind of difference.
            num_workers: accepted for compatibility; there is nothing to spread over processes.
            progress_bar: show the evaluations of the loss.
            param_names: declared scalar names; default: all free ones. A parameter that a constraint
                derives is perturbed by itself, which breaks the constraint: a warning says so.
            error_estimates: also evaluate at half the step and keep an error estimate in `errors`.

        Returns:
            Declared name -> tensor of the loss's shape, in torch's default dtype.

        Raises:
            ValueError: an unknown mode; `Cannot use log-space with zero parameters: [...]`.
            KeyError: an unknown parameter. TypeError: a loss that returns no floating-point tensor.
        """
        if mode not in ("central", "forward", "backward"):
            raise ValueError(f"Unsupported mode '{mode}'. Use 'central', 'forward', or 'backward'.")
        found = self._differences(loss_fn, mode, param_names, error_estimates, progress_bar)
        dtype = _engine.output_dtype(self.model.parameters.hyper)
        self.errors = {k: v.to(dtype) for k, v in found.errors.items()} if error_estimates else None
        values = {name: value.to(dtype) for name, value in found.values.items()}
        self.jacobian = JacobianResult(values, **describe(self.model))
        return self.jacobian

    def _differences(
        self,
        loss_fn: LossFn,
        mode: str,
        param_names: Sequence[str] | None = None,
        halved: bool = False,
        progress: bool = False,
    ) -> Differences:
        parameters = self.model.parameters
        names = list(
            dict.fromkeys(parameters.get_free_param_names() if param_names is None else param_names)
        )
        unknown = [name for name in names if name not in parameters.values]
        if unknown:
            raise KeyError(
                f"Unknown parameters {unknown}. There are: {', '.join(parameters.values)}."
            )
        if not names:
            return Differences({}, {}, {}, 0.0)
        given = _engine.scalar_values(parameters)
        x = np.array([given[name] for name in names])
        if not np.isfinite(x).all():
            raise ValueError(
                f"Parameters must be finite: {[n for n in names if not math.isfinite(given[n])]}."
            )
        stencil = Stencil(x, mode, self.parameter_space, self.epsilon, halved, names)
        points = stencil.points()
        count = len(points)
        if halved and mode != "central":
            # The derivative is taken on one side; a kink is seen by looking to both.
            other = "backward" if mode == "forward" else "forward"
            mirrored = Stencil(x, other, self.parameter_space, self.epsilon, halved, names)
            points = np.concatenate([points, mirrored.points()[1:]])
        moves = (points != x).sum(axis=0)
        unmoved = [
            n for n, found in zip(names, moves, strict=True) if found < (len(points) - 1) / len(x)
        ]
        if unmoved:
            raise ValueError(f"epsilon {self.epsilon:g} is too small to move {unmoved}.")
        negative = [name for name in names if given[name] < 0]
        if negative and self.parameter_space == "log":
            warn(
                f"Found negative parameters in log-space mode: {negative}. Using the sign-preserving "
                "transformation sign(p) * exp(log(abs(p)) +/- epsilon)."
            )
        derived = {c.derived_param for c in parameters.get_constraints()}
        broken = [name for name in names if name in derived]
        if broken:
            warn(
                f"{broken} are derived by constraints: perturbing them breaks the constraints, and "
                "their numerical derivatives differ from the (zero) derivatives under them."
            )
        loose = (points[:, [name in derived for name in names]] != [given[n] for n in broken]).any(
            1
        )
        losses, noise, eps = self._losses(loss_fn, _Runs(names, points, loose), progress)
        slopes, errors = stencil.combine(losses[:count], eps)
        width = np.abs(points[1 : 1 + len(x)] - x).max(axis=1) * (2 if mode == "central" else 1)
        noisy = np.stack(
            [noise[(at != at[0]) | (np.arange(len(at)) == 0)].max(0) for at in points.T]
        )
        errors = errors + 2 * noisy / width.reshape(-1, *[1] * (noise.ndim - 1))
        gaps = kinks(points, losses, eps) if halved else np.zeros_like(slopes)
        values, error, kink = (_by_name(names, found) for found in (slopes, errors, gaps))
        return Differences(values, error, kink, eps)

    def _losses(
        self, loss_fn: LossFn, runs: _Runs, shown: bool
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """The losses (R, *loss shape) of runs, how far rounding may have moved each, and their unit."""

        def evaluated(dtype: torch.dtype) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            losses, moves = [], []
            bar = progress(len(runs.points), "Numerical Jacobian", show=shown)
            with bar as tick, torch.no_grad():
                for outputs in self._outputs(runs, dtype):
                    # A loss may round float64 outputs by itself: its own dtype tells. Copies, because
                    # it may write into what it is given.
                    coarse = not losses or losses[0].dtype != torch.float64
                    spare = {k: path.clone() for k, path in outputs.items()} if coarse else {}
                    loss = evaluate(loss_fn, outputs)
                    losses.append(loss)
                    if loss.dtype != torch.float64:
                        jittered = _jittered(spare, 4 * torch.finfo(loss.dtype).eps, len(losses))
                        moves.append((evaluate(loss_fn, jittered) - loss).abs())
                    tick()
            return losses, moves

        dtype, default = torch.float64, _engine.output_dtype(self.model.parameters.hyper)
        found = refusal = None
        try:
            found = evaluated(dtype)
        except Exception as error:
            # What is not about float64 is raised again by the second attempt.
            if default == dtype:
                raise
            refusal = str(error).partition("\n")[0]
        if found is None:
            dtype = default
            found = evaluated(dtype)
            warn(
                f"The loss refuses float64 outputs ({refusal}); it is evaluated in {dtype}, whose "
                "round-off limits the accuracy of the differences."
            )
        eps = torch.finfo(found[0][0].dtype).eps
        losses = stack(found[0]).double().cpu().numpy()
        noise = stack(found[1]).double().cpu().numpy() if found[1] else np.zeros_like(losses)
        if len(losses) > 1 and losses.size and bool((losses == losses[0]).all()):
            warn(
                f"The loss is the same in all {len(losses)} runs (is it a constant?): its numerical "
                "Jacobian is zero."
            )
        return losses, noise, eps

    def _outputs(self, runs: _Runs, dtype: torch.dtype) -> Iterator[dict[str, torch.Tensor]]:
        """The output dict of every run."""
        model, scenario = self.model, self._scenario_id()
        if not _engine.is_compiled(model):
            return _eager.runs(model, scenario, *runs, dtype)
        definition = _engine.definition_for(model)
        point = _compiled.Point.of(model, scenario, definition)
        place = _engine.element_index(definition)
        vectors = point.vector.repeat(len(runs.points), 1)
        # What a class of the user's declares beyond the model moves nothing.
        known = [i for i, name in enumerate(runs.names) if name in place]
        vectors[:, [place[runs.names[i]] for i in known]] = torch.as_tensor(
            runs.points[:, known], device=vectors.device
        )
        if not runs.loose.any():
            return _compiled.runs(point, vectors, dtype)
        free = _compiled.Point.of(model, scenario, definition.with_constraints(()))
        kept = _compiled.runs(point, vectors[torch.from_numpy(~runs.loose)], dtype)
        moved = _compiled.runs(free, vectors[torch.from_numpy(runs.loose)], dtype)
        return (next(moved if loose else kept) for loose in runs.loose)


class _Runs(NamedTuple):
    """Perturbed runs.

    Attributes:
        names: the parameters that move.
        points: their values, (R, n).
        loose: runs without the constraints, which would undo the move of a derived parameter, (R,).
    """

    names: list[str]
    points: np.ndarray
    loose: np.ndarray


def _by_name(names: list[str], rows: np.ndarray) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.asarray(row)) for name, row in zip(names, rows, strict=True)}


def _jittered(outputs: dict[str, torch.Tensor], size: float, seed: int) -> dict[str, torch.Tensor]:
    """The outputs with every element off by `size`, relative, up or down at random."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, path in outputs.items():
        signs = torch.randint(0, 2, path.shape, generator=generator, device="cpu").to(path) * 2 - 1
        found[name] = path + size * path * signs
    return found
