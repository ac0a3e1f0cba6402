"""Impulse responses of a library model: every variable, every period, every exogenous series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from macrostat_jax import diff

from .. import _engine
from ._compiled import Point


def sequence_space_jacobian(
    model: Any,
    variables: str | Sequence[str] | None = None,
    series: str | Sequence[str] | None = None,
    scenario: int | str = 0,
) -> dict[str, dict[str, torch.Tensor]]:
    """How every variable in every period moves with a shock to every exogenous series in every period.

    Along the model's own run, by `macrostat_jax.diff.sequence_space_jacobian`: the derivatives of
    single periods are put together, which is much sooner done than differentiating the run.

    Args:
        model: an instance of a library model; its parameters, constraints, options, seed and noise count.
        variables: names, as in the outputs; default: all.
        series: names of exogenous series; default: all. Parameter shocks are not among them.
        scenario: id or name.

    Returns:
        Variable -> series -> tensor (T, *shape of the variable, T, *shape of the series), in the model's
        dtype. T are the periods that are simulated: entry (t, s) is the derivative of output row
        `timesteps_initialization + 1 + t` by scenario row `timesteps_initialization + s`.

    Raises:
        TypeError: a behavior written in torch. KeyError: an unknown name.
    """
    if not _engine.is_compiled(model):
        raise TypeError(
            f"{type(model).__name__} runs a behavior written in torch, of which there is no traced program: "
            "write the step in JAX (docs/out-of-eager-torch.md), or use JacobianAutograd."
        )
    point = Point.of(model, model.scenarios.find(scenario))
    with jax.enable_x64(True):
        arrays = [
            jnp.asarray(tensor.detach().cpu().numpy())
            for tensor in (point.vector, point.matrix, *point.random)
        ]
        inputs, plan = _engine._inputs(point.program.setup, *arrays)
        definition = plan.model
        given = (
            [definition.Scenario.key_of(name) for name in _listed(series)]
            if series is not None
            else list(definition.Scenario.fields)
        )
        found = diff.sequence_space_jacobian(
            definition,
            None if variables is None else _listed(variables),
            wrt=[f"scenario.{key}" for key in given],
            params=inputs.params,
            scenario=inputs.scenario,
            shocks=inputs.shocks,
            initial=inputs.initial if definition.random_start else None,
            key=inputs.key,
            noise=inputs.noise,
        )
    dtype = _engine.output_dtype(model.parameters.hyper)
    return {
        definition.State.fields[output].name: {
            definition.Scenario.fields[key].name: torch.from_numpy(
                np.array(columns[f"scenario.{key}"])
            ).to(dtype)
            for key in given
        }
        for output, columns in found.values.items()
    }


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
