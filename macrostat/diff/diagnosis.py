"""The diagnosis of a library model, with the parameters and scenario of its torch instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from macrostat_jax.diff import Diagnosis
from macrostat_jax.diff import diagnose as diagnose_definition

from .. import _engine
from ._compiled import Point


def diagnose(
    model: Any,
    loss: Callable[[Any], Any] | None = None,
    scenario: int | str = 0,
    **options: Any,
) -> Diagnosis:
    """A verdict on every parameter, and the line of the model's file where what is wrong begins.

    `check_model_differentiability` asks whether the gradients of a torch loss agree; this asks why they
    do not, of the model itself.

    Args:
        model: an instance of a library model; its parameters, constraints, options, seed and noise count.
        loss: None, for the mean over time of every variable; or a function in JAX of the path of states
            (`lambda path: path.national_income[-1]`), which begins with the first period that is
            simulated.
        scenario: id or name.
        options: `wrt`, `elements`, `reach`, `rtol`, `sharpness`, `second_order` of
            `macrostat_jax.diff.diagnose`.

    Returns:
        A `macrostat_jax.diff.Diagnosis`: print it, or read `findings`, `to_json()`, `plot()`.

    Raises:
        TypeError: a behavior written in torch, which has no program that could be looked into.
            KeyError, ValueError: an unknown scenario.
    """
    if not _engine.is_compiled(model):
        raise TypeError(
            f"{type(model).__name__} runs a behavior written in torch, of which there is no traced program "
            "to look into: use check_model_differentiability(model, loss_fn), which compares its gradients "
            "with finite differences, or write the step in JAX (docs/out-of-eager-torch.md)."
        )
    point = Point.of(model, model.scenarios.find(scenario))
    with jax.enable_x64(True):
        arrays = [
            jnp.asarray(tensor.detach().cpu().numpy())
            for tensor in (point.vector, point.matrix, *point.random)
        ]
        inputs, plan = _engine._inputs(point.program.setup, *arrays)
    return diagnose_definition(
        plan.model,
        loss,
        params=inputs.params,
        scenario=inputs.scenario if plan.model.Scenario.fields else None,
        shocks=inputs.shocks,
        periods=plan.periods,
        key=inputs.key,
        noise=inputs.noise,
        **options,
    )
