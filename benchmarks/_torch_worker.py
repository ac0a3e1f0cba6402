"""One process of the documented torch API, run by the peer's Python and by ours. No JAX in here.

Usage: _torch_worker.py warm|cold|native|sample MODEL [BUDGET]
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from functools import partial
from typing import Any

from _timing import answer, clock, lap, lap_together

START = time.perf_counter()
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")

import torch  # noqa: E402


def squares(output: dict[str, torch.Tensor]) -> torch.Tensor:
    """A loss of every variable in every period. Undefined first periods count as zero."""
    return sum((torch.nan_to_num(v) ** 2).sum() for v in output.values()) / 1e3  # pyright: ignore


def income(output: dict[str, torch.Tensor]) -> torch.Tensor:
    return output["NationalIncome"].reshape(-1)


def warm(name: str, budget: float) -> dict[str, Any]:
    """Each call of the API once (`*_first`), then the median of repeated calls."""
    from macrostat.diff import JacobianAutograd, JacobianNumerical
    from macrostat.models import get_model

    model: Any = get_model(name)()
    autograd, numerical = JacobianAutograd(model), JacobianNumerical(model)
    names = [p for p in model.parameters.get_free_param_names() if model.parameters[p] != 0]

    def differences(workers: int) -> Any:
        return numerical.compute(
            loss_fn=squares, mode="central", num_workers=workers, param_names=names
        )

    calls = {
        "simulate": model.simulate,
        "rev": partial(autograd.compute, loss_fn=squares, mode="rev"),
        "fwd": partial(autograd.compute, loss_fn=squares, mode="fwd"),
    }
    figures: dict[str, Any] = {}
    for key, call in calls.items():
        figures[f"{key}_first"] = clock(call)
        figures[key] = lap(call, budget)
    # The peer starts processes for each Jacobian: it is timed with one and with one per core, and the
    # faster counts. A call of a second or more is timed once per process.
    for workers in sorted({1, os.cpu_count() or 1}):
        figures[f"numerical_{workers}"] = clock(partial(differences, workers))
        if figures[f"numerical_{workers}"] < budget:
            figures[f"numerical_{workers}"] = lap(partial(differences, workers), budget)
    figures["numerical"] = min(v for k, v in figures.items() if k.startswith("numerical_"))
    gradient = autograd.compute(loss_fn=squares, mode="rev")
    return figures | {"gradient": {k: float(v.sum()) for k, v in gradient.items()}}


def cold(name: str, budget: float) -> dict[str, Any]:
    """What a script does that differentiates one model once."""
    from macrostat.diff import JacobianAutograd
    from macrostat.models import get_model

    imported = time.perf_counter() - START
    model: Any = get_model(name)()
    simulated = clock(model.simulate)
    reverse = clock(partial(JacobianAutograd(model).compute, loss_fn=squares, mode="rev"))
    return {"import": imported, "simulate_first": simulated, "rev_first": reverse}


def native(name: str, budget: float) -> dict[str, Any]:
    """What the JAX-native figures are compared with: a gradient, and the Jacobian of the income path."""
    from macrostat.diff import JacobianAutograd
    from macrostat.models import get_model

    model: Any = get_model(name)()
    compute = JacobianAutograd(model).compute
    calls = {
        "gradient": partial(compute, loss_fn=squares, mode="rev"),
        "jacobian_rev": partial(compute, loss_fn=income, mode="rev"),
        "jacobian_fwd": partial(compute, loss_fn=income, mode="fwd"),
    }
    figures: dict[str, Any] = lap_together(calls, budget, turns=2)
    figures["jacobian"] = min(figures["jacobian_rev"], figures["jacobian_fwd"])
    return figures


def library(name: str, budget: float) -> dict[str, Any]:
    """A simulation and the Jacobian of a loss, warm. NaN in the gradient counts, as `undefined`."""
    from macrostat.diff import JacobianAutograd
    from macrostat.models import get_model

    model: Any = get_model(name)()
    compute = JacobianAutograd(model).compute
    calls = {
        "simulate": model.simulate,
        "rev": partial(compute, loss_fn=squares, mode="rev"),
        "fwd": partial(compute, loss_fn=squares, mode="fwd"),
    }
    figures: dict[str, Any] = lap_together(calls, budget, turns=2)
    gradient = {key: value.double().sum().item() for key, value in calls["rev"]().items()}
    undefined = sum(value != value for value in gradient.values())
    return figures | {"gradient": gradient, "undefined": undefined}


def first(name: str, budget: float) -> dict[str, Any]:
    """The first reverse Jacobian of a process, compiling included."""
    from macrostat.diff import JacobianAutograd
    from macrostat.models import get_model

    compute = JacobianAutograd(get_model(name)()).compute
    return {"first": clock(partial(compute, loss_fn=squares, mode="rev"))}


def memory(name: str, budget: float) -> dict[str, Any]:
    """Bytes by which the Jacobian of all outputs, and central differences, raise the process's peak."""
    import resource

    from macrostat.diff import JacobianAutograd, JacobianNumerical
    from macrostat.models import get_model

    def peak() -> int:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def outputs(output: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([value.reshape(len(value), -1) for value in output.values()], dim=1)

    model: Any = get_model(name)()
    before = peak()
    JacobianAutograd(model).compute(loss_fn=outputs, mode="fwd")
    figures: dict[str, Any] = {"before": before, "jacobian": peak() - before}
    if "jax" in sys.modules:  # the peer's own hangs for the model that this is about
        numerical = JacobianNumerical(model, parameter_space="direct")
        call = partial(numerical.compute, loss_fn=squares)
        call()
        figures["numerical"] = lap(call, budget)
    return figures


def sample(name: str, budget: float) -> dict[str, Any]:
    """256 simulations over the free parameters, from points to CSV files in a new folder."""
    import pandas as pd

    from macrostat.models import get_model
    from macrostat.sample import SobolSampler

    model: Any = get_model(name)()
    folders: list[str] = []

    def call(workers: int) -> None:
        folders.append(f"samples_{len(folders)}")
        arguments = {"output_folder": folders[-1], "cpu_count": workers}
        SobolSampler(model, sample_power=8, **arguments).sample()

    # The peer starts processes: it is timed with one and with one per core, and the faster counts.
    figures: dict[str, Any] = {"sample_first": clock(partial(call, 1))}
    times = [lap(partial(call, workers), budget) for workers in sorted({1, os.cpu_count() or 1})]
    table = pd.read_csv(f"{folders[0]}/outputs_0.csv", header=[0, 1], index_col=[0, 1])
    means = {".".join(column): float(mean) for column, mean in table.mean().items()}  # pyright: ignore
    return figures | {"sample": min(times), "means": means}


if __name__ == "__main__":
    task, name, *rest = sys.argv[1:]
    budget = float(rest[0]) if rest else 1.0
    tasks = {
        "warm": warm,
        "cold": cold,
        "native": native,
        "sample": sample,
        "library": library,
        "first": first,
        "memory": memory,
    }
    figures = tasks[task](name, budget)
    import macrostat

    answer({"package": str(macrostat.__file__), **figures})
