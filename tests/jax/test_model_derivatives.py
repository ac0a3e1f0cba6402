"""Every registered model on 1,000 sets of parameters: derivatives are finite, and right in both modes.

What is differentiated is a weighted sum of all variables in all periods, each in units of its own
size, along a direction in which all parameters move at once.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import SHORT, disturbed, example, randomly

from macrostat_jax import models, simulate

SETS, PERIODS = 1000, 30
STEPS = (1e-6, 1e-7)
AT_A_SWITCH = 0.005
"""At most this share of the sets may lie so near to a switch, or to a probability at which a choice that
was drawn changes, that a difference crosses it."""


def finite(leaf: Any) -> Any:
    """A limit that does not bind may be infinite; what is undefined stays so."""
    return jnp.where(jnp.isinf(leaf), 0.0, leaf)


@pytest.fixture(params=models.names())
def case(request):
    """The weighted sum as a function of the parameters, 1,000 sets of them, and a direction for each."""
    model, rng = example(request.param), np.random.default_rng(8)
    scenario = disturbed(model, PERIODS)
    params = jax.tree.map(jnp.asarray, randomly(model, 21, SETS))
    paths = jax.tree.map(finite, simulate(model, model.params(), **scenario))
    weights = jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape) / max(float(np.max(np.abs(leaf))), 1e-3), paths
    )
    directions = jax.tree.map(lambda leaf: 0.2 * leaf * rng.standard_normal(leaf.shape), params)

    def total(params: Any) -> Any:
        path = simulate(model, params, **scenario)
        parts = jax.tree.map(lambda w, leaf: jnp.sum(w * finite(leaf)), weights, path)
        return sum(jax.tree.leaves(parts))

    return model, total, params, directions


def along(gradient: Any, directions: Any) -> np.ndarray:
    products = jax.tree.map(
        lambda g, d: (g * d).reshape(SETS, -1).sum(axis=1), gradient, directions
    )
    return np.asarray(sum(jax.tree.leaves(products)))


def test_derivatives_of_every_model(case):
    model, total, params, directions = case
    gradient = jax.jit(jax.vmap(jax.grad(total)))(params)
    for name in model.Params.fields:
        assert np.all(np.isfinite(getattr(gradient, name))), name
    forward = jax.jit(jax.vmap(lambda p, d: jax.jvp(total, (p,), (d,))))
    value, slope = map(np.asarray, forward(params, directions))
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(slope))
    # Terms of both signs add up to the slope: their sizes are the scale of its rounding.
    sizes = along(jax.tree.map(jnp.abs, gradient), jax.tree.map(jnp.abs, directions))
    scale = np.maximum(sizes, 1e-3)
    assert np.max(np.abs(along(gradient, directions) - slope) / scale) < 1e-9

    values = jax.jit(jax.vmap(total))

    def moved(step: float) -> np.ndarray:
        return np.asarray(values(jax.tree.map(lambda p, d: p + step * d, params, directions)))

    # A central difference leaves the step squared times the curvature, and the rounding of the sum
    # over the step: where the one is large, the shorter step is better, else the longer one.
    errors = [np.abs((moved(h) - moved(-h)) / (2 * h) - slope) / scale for h in STEPS]
    error = np.minimum(*errors)
    switches = model.options.keys() & {"sharpness", "relaxation"}
    kinked = switches or model.name in SHORT
    assert np.mean(error > 1e-6) <= (AT_A_SWITCH if kinked else 0), np.sort(error)[-9:]
