"""Jacobians by finite differences: the second opinion."""

from __future__ import annotations

import copy
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from macrostat_jax.diff._stencil import Stencil

from .. import _engine
from . import _compiled
from ._loss import LossFn, evaluate
from ._result import JacobianResult, describe
from .jacobian_base import JacobianBase


class Differences(NamedTuple):
    """Derivatives and their error estimates by parameter name, and the round-off they were taken with."""

    values: dict[str, torch.Tensor]
    errors: dict[str, torch.Tensor]
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
        if not (isinstance(epsilon, (int, float)) and math.isfinite(epsilon) and epsilon > 0):
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
        names = list(parameters.get_free_param_names() if param_names is None else param_names)
        unknown = [name for name in names if name not in parameters.values]
        if unknown:
            raise KeyError(
                f"Unknown parameters {unknown}. There are: {', '.join(parameters.values)}."
            )
        if not names:
            return Differences({}, {}, 0.0)
        x = np.array([float(parameters.values[name]["value"]) for name in names])
        stencil = Stencil(x, mode, self.parameter_space, self.epsilon, halved, names)
        if self.parameter_space == "log":
            self._warn_of_negatives([n for n, value in zip(names, x, strict=True) if value < 0])
        broken = set(names) & {c.derived_param for c in parameters.get_constraints()}
        if broken:
            warnings.warn(
                f"{sorted(broken)} are derived by constraints: perturbing them breaks the constraints, "
                "and their numerical derivatives differ from the (zero) derivatives under them.",
                UserWarning,
                stacklevel=3,
            )
        values, dtype = self._losses(loss_fn, names, stencil.points(), broken, progress)
        eps = torch.finfo(dtype).eps
        slopes, errors = stencil.combine(values.double().cpu().numpy(), eps)
        return Differences(
            {name: torch.from_numpy(np.asarray(slopes[i])) for i, name in enumerate(names)},
            {name: torch.from_numpy(np.asarray(errors[i])) for i, name in enumerate(names)},
            eps,
        )

    @staticmethod
    def _warn_of_negatives(names: list[str]) -> None:
        if names:
            warnings.warn(
                f"Found negative parameters in log-space mode: {names}. Using the sign-preserving "
                "transformation sign(p) * exp(log(abs(p)) +/- epsilon).",
                UserWarning,
                stacklevel=4,
            )

    def _losses(
        self,
        loss_fn: LossFn,
        names: list[str],
        points: np.ndarray,
        broken: set[str],
        progress: bool,
    ) -> tuple[torch.Tensor, torch.dtype]:
        """The losses (R, *loss shape) at `points` (R, n), and the dtype the loss was evaluated in."""
        run = self._compiled_losses if _engine.is_compiled(self.model) else self._eager_losses
        with _progress(len(points) if progress else 0) as tick:
            try:
                losses = run(loss_fn, names, points, broken, torch.float64, tick)
            except (RuntimeError, TypeError) as refusal:
                dtype = torch.get_default_dtype()
                losses = run(loss_fn, names, points, broken, dtype, tick)
                warnings.warn(
                    f"The loss refuses float64 outputs ({refusal}); it is evaluated in {dtype}, whose "
                    "round-off limits the accuracy of the differences.",
                    UserWarning,
                    stacklevel=4,
                )
        # A loss may round float64 outputs by itself: its own dtype is what its differences suffer from.
        return losses, losses.dtype

    def _compiled_losses(
        self,
        loss_fn: LossFn,
        names: list[str],
        points: np.ndarray,
        broken: set[str],
        dtype: torch.dtype,
        tick: Callable[[], Any],
    ) -> torch.Tensor:
        definition = _engine.definition_for(self.model)
        point = _compiled.Point.of(self.model, self._scenario_id(), definition)
        place = _engine.element_index(definition)
        columns = [place[name] for name in names]
        vectors = point.vector.repeat(len(points), 1)
        vectors[:, columns] = torch.as_tensor(points, device=vectors.device)
        if not broken:
            return _compiled.losses(point, loss_fn, vectors, dtype, tick)
        # Rows that move a derived parameter run without the constraint that would undo the move.
        moved = (vectors != vectors[0])[:, [place[name] for name in sorted(broken)]].any(dim=1)
        loose = _compiled.Point.of(self.model, self._scenario_id(), definition.with_constraints(()))
        kept = _compiled.losses(point, loss_fn, vectors[~moved], dtype, tick)
        free = _compiled.losses(loose, loss_fn, vectors[moved], dtype, tick)
        result = kept.new_empty(len(vectors), *kept.shape[1:])
        result[~moved], result[moved] = kept, free
        return result

    def _eager_losses(
        self,
        loss_fn: LossFn,
        names: list[str],
        points: np.ndarray,
        broken: set[str],
        dtype: torch.dtype,
        tick: Callable[[], Any],
    ) -> torch.Tensor:
        model, scenario = self.model, self._scenario_id()
        variables = copy.deepcopy(model.variables)
        found = []
        with torch.no_grad(), _default_dtype(dtype):
            for row in points:
                parameters = copy.deepcopy(model.parameters)
                for name, value in zip(names, row, strict=True):
                    parameters.values[name]["value"] = float(value)
                if any(
                    parameters.values[n]["value"] != model.parameters.values[n]["value"]
                    for n in broken
                ):
                    parameters.get_constraints = tuple
                else:
                    parameters.enforce_constraints()
                behavior = model.behavior(parameters, model.scenarios, variables, scenario=scenario)
                found.append(evaluate(loss_fn, behavior.to(dtype)()))
                tick()
        return torch.stack(found)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Tensors that a user's step makes without naming a dtype are then of `dtype`, too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], Any]]:
    if not total:
        yield lambda: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        print("progress_bar needs tqdm: pip install tqdm", file=sys.stderr)
        yield lambda: None
        return
    with tqdm(total=total, desc="Numerical Jacobian") as bar:
        yield bar.update
