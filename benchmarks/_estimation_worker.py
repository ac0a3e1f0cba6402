"""One process of an estimation, run by the peer's Python and by ours. No JAX in here.

Usage: _estimation_worker.py MODEL BUDGET [MAX_NFEV]
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from typing import Any

from _timing import answer, clock, lap

logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")

import torch  # noqa: E402

VARIABLES = ["NationalIncome", "HouseholdMoneyStock"]
PERIODS = slice(2, 60)
SHARE = 0.9
"""Where every free parameter starts, of its true value."""


def estimate(name: str, budget: float, max_nfev: int) -> dict[str, Any]:
    """A whole fit: the first one in the process, and the median of repeated ones."""
    import macrostat
    from macrostat.estimation import LevenbergMarquardt, mse_loss
    from macrostat.models import get_model

    model: Any = get_model(name)()
    truth = {key: model.parameters[key] for key in model.parameters.get_free_param_names()}
    with torch.no_grad():
        target = {key: path.clone() for key, path in model.simulate().items()}

    def loss_fn(output: dict[str, torch.Tensor]) -> torch.Tensor:
        return mse_loss(output, target, variables=VARIABLES, timesteps=PERIODS, reduction="none")

    def fit(max_nfev: int = max_nfev, verbose: int = 0) -> Any:
        for key, value in truth.items():
            model.parameters[key] = SHARE * value
        search = LevenbergMarquardt(model, loss_fn, max_nfev=max_nfev, verbose=verbose)
        return search.optimize()

    first = clock(fit)
    warm = lap(fit, budget)
    result = fit()
    with contextlib.redirect_stdout(io.StringIO()) as text:
        fit(verbose=1)
    lines = [line for line in text.getvalue().splitlines() if "accept" in line or "reject" in line]
    last = max((i for i, line in enumerate(lines) if "accept" in line), default=-1) + 1
    useful = clock(lambda: fit(max_nfev=last + 1))
    with torch.no_grad():
        fitted = model.simulate()
    misfit = max(
        float(((fitted[key] - target[key])[PERIODS].abs() / target[key][PERIODS].abs()).max())
        for key in VARIABLES
    )
    return {
        "package": str(macrostat.__file__),
        "first": first,
        "warm": warm,
        "useful": useful,
        "success": bool(result.success),
        "nit": int(result.nit),
        "misfit": misfit,
    }


if __name__ == "__main__":
    name, budget, *limit = sys.argv[1:]
    answer(estimate(name, float(budget), int(limit[0]) if limit else 1000))
