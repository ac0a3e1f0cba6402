"""Levenberg and Marquardt's method for the parameters of a model, with a torch loss."""

from __future__ import annotations

import copy
from typing import Any, Literal

import numpy as np
import torch

from macrostat_jax.estimation import (
    Iteration,
    LeastSquares,
    LinearConstraint,
    Region,
    identifiability,
    levenberg_marquardt,
)
from macrostat_jax.estimation._levenberg_marquardt import check_options

from .. import _engine
from ..diff import JacobianAutograd
from ..diff._loss import LossFn, warn
from .result import EstimationResult


class LevenbergMarquardt:
    """Fits the free parameters of a model, within their bounds, to what a loss compares them with.

        result = LevenbergMarquardt(model, loss_fn).optimize()

    Free are the scalar parameters, sectors' slots included, that no constraint derives; a parameter whose
    bounds are equal stays. What a constraint derives stays within its bounds as well. Data parameters
    are data. The loss sees float64 outputs (one that refuses them gets the default dtype, with a warning).

    Args:
        model: a library model, or one with a behavior of the user's own. `optimize` starts at its
            parameters and leaves it at the best ones it has found, also if it is interrupted.
        loss_fn: a function of the output dict that returns residuals (`reduction="none"`): a tensor of
            any shape but a scalar, whose squares are summed.
        scenario: its number or name.
        ftol: converged when a step changes the cost F = |r|^2 / 2 by less than ftol (F + ftol).
        xtol: converged when a step changes every parameter x by less than xtol (|x| + xtol), or when no
            longer step lowers the cost.
        gtol: converged when no element of the gradient that leads into the bounds exceeds it.
        max_nfev: how many simulations may be run, those of Jacobians aside.
        damping_init: the first damping, relative to the diagonal of J'J (`"identity"`: to its largest
            element).
        damping_update_factor: how much a rejected step raises the damping; repeated ones raise it faster.
        scaling: `"marquardt"` damps each parameter in proportion to its effect, `"identity"` all alike.
        jacobian_mode: `"rev"` costs a backward pass per residual, `"fwd"` a tangent per parameter.
        verbose: 1 prints a line per step, 2 the parameters as well.

    Attributes:
        nfev, njev, nit: how many simulations, Jacobians and trial steps the last `optimize` took.

    Raises:
        ValueError: an option out of its range, an unknown scenario name; KeyError: an unknown scenario
            number; TypeError: a class in place of its instance. All at construction.
    """

    def __init__(
        self,
        model: Any,
        loss_fn: LossFn,
        scenario: int | str = 0,
        ftol: float = 1e-8,
        xtol: float = 1e-8,
        gtol: float = 1e-8,
        max_nfev: int = 1000,
        damping_init: float = 1e-3,
        damping_update_factor: float = 2.0,
        scaling: Literal["marquardt", "identity"] = "marquardt",
        jacobian_mode: Literal["rev", "fwd"] = "rev",
        verbose: int = 0,
    ) -> None:
        check_options(scaling, ftol, xtol, gtol, max_nfev, damping_init, damping_update_factor)
        if jacobian_mode not in ("rev", "fwd"):
            raise ValueError(f"Unsupported mode '{jacobian_mode}'. Use 'rev' or 'fwd'.")
        if isinstance(model, type):
            raise TypeError(f"model must be an instance, {model.__name__}(), not the class itself.")
        model.scenarios.find(scenario)
        self.model, self.loss_fn, self.scenario = model, loss_fn, scenario
        self.ftol, self.xtol, self.gtol, self.max_nfev = ftol, xtol, gtol, max_nfev
        self.damping_init, self.damping_update_factor = damping_init, damping_update_factor
        self.scaling, self.jacobian_mode, self.verbose = scaling, jacobian_mode, verbose
        self.nfev = self.njev = self.nit = 0

    def optimize(self) -> EstimationResult:
        """Fits the parameters, and leaves the model at the result.

        Raises:
            ValueError: the model has no free parameter, the loss is a scalar, or its residuals at the
                start are not finite. What the loss itself raises passes.
            BoundaryError: a parameter, derived ones included, that is not within its bounds.
        """
        problem = _Problem(self.model, self.loss_fn, self.scenario, self.jacobian_mode)
        self.nfev = self.njev = self.nit = 0
        if self.verbose:
            print(f"{'step':>5} {'cost':>13} {'optimality':>11} {'damping':>10}  outcome")

        def report(step: Iteration) -> None:
            self.nfev, self.njev, self.nit = step.nfev, step.njev, step.nit
            if step.accepted:
                problem.move(self.model, step.x)
            if self.verbose:
                said = "accepted" if step.accepted else "rejected"
                print(
                    f"{step.nit:>5} {step.cost:>13.6e} {step.optimality:>11.3e} "
                    f"{step.damping:>10.2e}  {said}"
                )
            if self.verbose > 1:
                for name, value in zip(problem.names, step.x, strict=True):
                    print(f"{'':>7}{name} = {value:.8g}")

        found = levenberg_marquardt(
            problem.residuals,
            problem.jacobian,
            problem.start,
            bounds=problem.bounds,
            constraint=problem.constraint,
            scaling=self.scaling,
            ftol=self.ftol,
            xtol=self.xtol,
            gtol=self.gtol,
            max_nfev=self.max_nfev,
            damping_init=self.damping_init,
            damping_update_factor=self.damping_update_factor,
            callback=report,
        )
        self.nfev, self.njev, self.nit = found.nfev, found.njev, found.nit
        result = problem.result(found)
        if self.verbose:
            print(f"\n{result}")
        return result


class _Problem:
    """The model as a function of the vector of its free parameters. It runs on a twin of the model, so
    that the user's own is never at a parameter that was only tried.
    """

    def __init__(self, model: Any, loss_fn: LossFn, scenario: int | str, mode: str) -> None:
        self.twin = twin = copy.copy(model)
        twin.parameters, twin.scenarios, twin.variables = copy.deepcopy(
            (model.parameters, model.scenarios, model.variables)
        )
        self._derivatives = JacobianAutograd(self.twin, scenario)
        self._loss_fn, self._mode = loss_fn, mode
        parameters = twin.parameters
        parameters.enforce_constraints()
        parameters.verify_parameters()
        self.names: list[str] = parameters.get_free_param_names()
        if not self.names:
            raise ValueError("The model has no free parameter to estimate.")
        self.start = np.array([parameters[name] for name in self.names], float)
        self.bounds = _limits(parameters, self.names)
        # What constraints derive is target - sum of free ones: bounds on it are limits on the sum.
        self._derived = parameters.get_constraints()
        self._sums = np.array(
            [[float(n in c.free_params) for n in self.names] for c in self._derived]
        ).reshape(-1, len(self.names))
        low, high = _limits(parameters, [c.derived_param for c in self._derived])
        targets = np.array([float(c.target) for c in self._derived])
        self.constraint = LinearConstraint(self._sums, targets - high, targets - low)
        self._dtype = torch.float64
        self._choose_dtype()

    def _choose_dtype(self) -> None:
        """float64, unless the loss refuses it."""
        default = _engine.output_dtype(self.twin.parameters.hyper)
        try:
            first = self._loss()
        except Exception as error:
            if default == self._dtype:
                raise
            refusal = str(error).partition("\n")[0]
            self._dtype = default
            # What is not about float64 is raised again.
            first = self._loss()
            warn(
                f"The loss refuses float64 outputs ({refusal}); it is evaluated in {default}, whose "
                "round-off limits the accuracy of the fit."
            )
        if first.dim() == 0:
            raise ValueError(
                "loss_fn returns a scalar: Levenberg-Marquardt needs the residuals themselves, one per "
                "observation (reduction='none')."
            )

    def _loss(self) -> torch.Tensor:
        return self._derivatives._loss(self._loss_fn, self._dtype)

    def move(self, model: Any, x: np.ndarray) -> None:
        """Sets the model's free parameters to x, and what is derived from them."""
        for name, value in zip(self.names, x, strict=True):
            model.parameters.values[name]["value"] = float(value)
        model.parameters.enforce_constraints()

    def _scales(self, x: np.ndarray) -> np.ndarray:
        """The size of each parameter: of its values, or of what its bounds leave it."""
        size = np.maximum(np.abs(x), np.abs(self.start))
        width = self.bounds[1] - self.bounds[0]
        return np.where(size > 0, size, np.where(np.isfinite(width), width, 1.0))

    def residuals(self, x: np.ndarray) -> np.ndarray:
        self.move(self.twin, x)
        return self._loss().detach().double().reshape(-1).cpu().numpy()

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        self.move(self.twin, x)
        found = self._derivatives._compute(
            self._loss_fn, self._mode, None, self._dtype, torch.float64
        ).by_scalar()
        columns = [found[name].detach().reshape(-1).cpu() for name in self.names]
        return torch.stack(columns, dim=1).numpy()

    def result(self, found: LeastSquares) -> EstimationResult:
        self.move(self.twin, found.x)
        dtype = _engine.output_dtype(self.twin.parameters.hyper)
        columns = torch.from_numpy(np.array(found.jacobian)).to(dtype)
        jacobian = {name: columns[:, i] for i, name in enumerate(self.names)}
        jacobian |= {c.derived_param: torch.zeros_like(columns[:, 0]) for c in self._derived}
        known, errors = None, {}
        if np.isfinite(found.jacobian).all():
            region = Region(len(self.names), self.bounds, self.constraint)
            known = identifiability(
                found.jacobian,
                found.residuals,
                found.x,
                self.names,
                scales=self._scales(found.x),
                at_bound=region.at_bound(found.x),
                reached_sums=region.reached_sums(found.x),
            )
            errors = dict(zip(self.names, known.standard_errors.tolist(), strict=True))
            for constraint, row in zip(self._derived, self._sums, strict=True):
                errors[constraint.derived_param] = known.error_of(row)
        values = self.twin.parameters.get_values()
        return EstimationResult(
            success=found.success,
            status=found.status,
            message=found.message,
            params={
                name: torch.tensor(value, dtype=torch.float64, device="cpu")
                for name, value in values.items()
            },
            cost=found.cost,
            residuals=torch.from_numpy(np.array(found.residuals)).to(dtype),
            jacobian={name: jacobian[name] for name in values},
            nfev=found.nfev,
            njev=found.njev,
            nit=found.nit,
            optimality=found.optimality,
            identifiability=known,
            standard_errors={name: errors[name] for name in values} if errors else {},
        )


def _limits(parameters: Any, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds, infinite where there are none."""
    bounds = parameters.get_bounds()
    low = [-np.inf if bounds[name][0] is None else bounds[name][0] for name in names]
    high = [np.inf if bounds[name][1] is None else bounds[name][1] for name in names]
    return np.array(low, float), np.array(high, float)
