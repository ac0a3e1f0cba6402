"""What compiles, and what does not: one program per model, horizon, transform and padded batch size.

    python benchmarks/compilations.py

Counts the programs that XLA compiles (or reads from the on-disk cache) in this process: at the first
call of each transform, and then over a session that changes parameter values, scenarios and instances.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from _harness import SMALL_LOOPS, Report, Row, interpreter, options

CHANGES = 12


def counted(function: Callable[[], Any]) -> int:
    """How many programs a call compiles."""
    import jax

    from macrostat_jax import count_compilations

    with count_compilations() as compilations:
        jax.block_until_ready(function())
    return compilations.count


def session_row(title: str, calls: Sequence[Callable[[], Any]]) -> list[Row]:
    """The first call may compile one program, all others none."""
    first = counted(calls[0])
    later = [counted(call) for call in calls[1:]]
    return [
        Row(title, {"calls": "first", "compiled": str(first)}, first, ("<=", 1)),
        Row(
            "", {"calls": f"{len(later)} more", "compiled": str(sum(later))}, sum(later), ("==", 0)
        ),
    ]


def core_rows(name: str) -> list[Row]:
    """`macrostat_jax`, over parameter values and scenarios."""
    import jax.numpy as jnp

    from macrostat_jax import diff, models, simulate

    model = models.get(name)
    names = list(model.Params.fields)
    sessions = []
    for i in range(CHANGES):
        values = {names[0]: getattr(model.params(), names[0]) * (1 - 0.01 * i)}
        series = {key: 1.0 + 0.1 * i for key in list(model.Scenario.fields)[:1]}
        sessions.append((model.params(**values), model.scenario(**series)))
    income = next(iter(model.State.fields))

    def loss(path: Any) -> Any:
        return jnp.sum(getattr(path, income) ** 2)

    transforms: dict[str, Callable[..., Any]] = {
        "simulate": lambda p, s: simulate(model, p, s),
        "gradient": lambda p, s: diff.gradient(model, loss, params=p, scenario=s),
        "jacobian, forward": lambda p, s: (
            diff.jacobian(model, income, params=p, scenario=s, mode="forward").values
        ),
        "jacobian, reverse": lambda p, s: (
            diff.jacobian(model, loss, params=p, scenario=s, mode="reverse").values
        ),
        "hessian": lambda p, s: diff.hessian(model, loss, params=p, scenario=s).values,
        "jvp": lambda p, s: diff.jvp(model, income, {names[0]: 1.0}, params=p, scenario=s),
        "vjp": lambda p, s: diff.vjp(model, income, {income: 1.0}, params=p, scenario=s),
        "finite differences": lambda p, s: (
            diff.finite_differences(model, income, params=p, scenario=s).values
        ),
    }
    rows = []
    for title, transform in transforms.items():
        calls = [lambda t=transform, p=p, s=s: t(p, s) for p, s in sessions]
        rows += session_row(title, calls)
    horizons = [model.scenario(periods=periods) for periods in (60, 60, 60)]
    rows += session_row(
        "simulate, horizon 60", [lambda s=s: simulate(model, None, s) for s in horizons]
    )
    batches = [
        model.params(**{names[0]: jnp.linspace(0.9, 1.0, 64) * getattr(model.params(), names[0])})
        for _ in range(3)
    ]
    rows += session_row("simulate, batch of 64", [lambda p=p: simulate(model, p) for p in batches])
    return rows


def torch_rows(name: str) -> list[Row]:
    """`macrostat`, over instances, parameter values and scenarios."""
    import torch

    from macrostat.diff import JacobianAutograd, JacobianNumerical
    from macrostat.models import get_model

    def squares(output: dict[str, torch.Tensor]) -> torch.Tensor:
        return sum((torch.nan_to_num(v) ** 2).sum() for v in output.values()) / 1e3  # pyright: ignore

    def instances() -> list[Any]:
        """A new instance each time, with another parameter value and another level of a series."""
        found = []
        for i in range(CHANGES):
            model: Any = get_model(name)()
            parameter = next(iter(model.parameters.get_free_param_names()))
            model.parameters[parameter] = model.parameters[parameter] * (1 - 0.01 * i)
            for series in model.scenarios.timeseries[0].values():
                series *= 1 + 0.01 * i
            found.append(model)
        return found

    def differences(model: Any, count: int) -> Any:
        names = [p for p in model.parameters.get_free_param_names() if model.parameters[p] != 0]
        return JacobianNumerical(model).compute(loss_fn=squares, param_names=names[:count])

    transforms: dict[str, Callable[[Any], Any]] = {
        "simulate": lambda m: m.simulate(),
        "JacobianAutograd, rev": lambda m: JacobianAutograd(m).compute(squares, mode="rev"),
        "JacobianAutograd, fwd": lambda m: JacobianAutograd(m).compute(squares, mode="fwd"),
        "JacobianNumerical": lambda m: differences(m, 99),
    }
    rows = []
    for title, transform in transforms.items():
        calls = [lambda t=transform, m=m: t(m) for m in instances()]
        rows += session_row(title, calls)
    few = [
        lambda m=m, n=n: differences(m, n) for n, m in zip((1, 2, 3), instances()[:3], strict=True)
    ]
    rows += session_row("JacobianNumerical, 1 to 3 parameters: batches padded alike", few)
    return rows


def main() -> int:
    parser = options(__doc__, processes=0, peer=False)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=["GL06PC"])
    parser.add_argument("--only", choices=("core", "torch"), help="one of the two APIs")
    given: argparse.Namespace = parser.parse_args()
    python = interpreter(sys.executable)
    if python.needs_flag:
        os.environ["XLA_FLAGS"] = SMALL_LOOPS  # before jax starts
    import jax

    report = Report("Compilations in one process", [python])
    with jax.enable_x64(True):
        for model in given.models:
            if given.only != "torch":
                report.section(f"macrostat_jax, {model}", core_rows(model))
    for model in given.models:
        if given.only != "core" and "torch" in python.versions:
            report.section(f"macrostat (torch API), {model}", torch_rows(model))
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
