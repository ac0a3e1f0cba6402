"""The outcome of an estimation."""

from __future__ import annotations

import dataclasses
import math

import torch

from macrostat_jax.estimation import Identifiability


@dataclasses.dataclass(eq=False)
class EstimationResult:
    """The outcome of an estimation. Printed, it is a sentence and a table of the parameters.

    Attributes:
        success: whether it converged.
        status: 0, 1, 2: converged by ftol (the cost), xtol (the parameters), gtol (the gradient); -1: out
            of function evaluations; -2: failed.
        message: why it ended, as a sentence.
        params: declared parameter name -> value, 0-d, float64.
        cost: half the sum of the squared residuals.
        residuals: (m,), as the loss returned them, flattened.
        jacobian: declared parameter name -> derivatives of the residuals (m,); None if there is none.
        nfev, njev, nit: how many simulations, Jacobians and trial steps were computed.
        optimality: the largest element of the gradient J'r that does not lead out of the bounds.
        identifiability: what the data say about the free parameters; None if there is no Jacobian.
        standard_errors: declared parameter name -> standard error, derived parameters included; infinite
            where the data say nothing, NaN where a parameter is at a bound or there are no more
            residuals than parameters.
    """

    success: bool
    status: int
    message: str
    params: dict[str, torch.Tensor]
    cost: float
    residuals: torch.Tensor
    jacobian: dict[str, torch.Tensor] | None
    nfev: int
    njev: int
    nit: int
    optimality: float
    identifiability: Identifiability | None = None
    standard_errors: dict[str, float] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        done = "Converged" if self.success else "Did not converge"
        lines = [
            f"{done} after {self.nit} steps: {self.message}",
            f"Cost {self.cost:.6g}, optimality {self.optimality:.3g}, {self.nfev} simulations, "
            f"{self.njev} Jacobians (status {self.status}).",
        ]
        if self.identifiability is not None:
            lines.append(str(self.identifiability))
        width = max(map(len, self.params), default=0)
        width = max(width, len("parameter"))
        head = f"{'parameter':<{width}}  {'value':>14}"
        lines += ["", head + (f"  {'std. error':>12}" if self.standard_errors else "")]
        for name, value in self.params.items():
            shown = f"{value.item():>14.8g}" if value.numel() == 1 else str(tuple(value.shape))
            line = f"{name:<{width}}  {shown}"
            if self.standard_errors:
                error = self.standard_errors.get(name, math.nan)
                line += f"  {'-' if math.isnan(error) else f'{error:.3g}':>12}"
            lines.append(line)
        return "\n".join(lines)
