"""What several tests of the core share."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import numpy as np

from macrostat_jax import Model, models, simulate

SMALL: dict[str, dict[str, Any]] = {
    "KirmansAnts": {"substep": 20},
    "Mark0COVID": {"firm": 20},
    "TwoMarketsABM": {"household": 30, "firm": 5},
}
"""Sizes in which the tests of the whole register run a model."""
OPTIONS: dict[str, dict[str, Any]] = {"Mark0COVID": {"target_without_reaction": True}}
"""Options in which they do: Mark0COVID jumps at its defaults, where expectations begin to have a target."""
CENTRE: dict[str, dict[str, float]] = {"KirmansAnts": {"switching_rate": 4.0}}
"""Parameters around which they draw others, where near the defaults derivatives along a path may grow
without limit."""
SHORT: dict[str, int] = {"KirmansAnts": 3, "Mark0COVID": 3}
"""Horizons for derivatives of models with kinks so many that a difference over a longer run crosses one."""


def example(name: str) -> Model:
    """A registered model in the size of these tests."""
    return models.get(name).resize(**SMALL.get(name, {})).configure(**OPTIONS.get(name, {}))


def centre(model: Model) -> dict[str, Any]:
    """The parameters around which others are drawn."""
    defaults = {key: field.default for key, field in model.Params.fields.items()}
    return defaults | CENTRE.get(model.name, {})


def keyed(model: Model) -> dict[str, Any]:
    """The key that a random model runs with in these tests, as an argument; else nothing."""
    return {"key": jax.random.key(1)} if model.random or model.random_start else {}


def randomly(model: Model, seed: int, size: int | None = None) -> Any:
    """Parameters within 20 % of their defaults and within their bounds; `size` of them, or one.

    Of a model whose equations may have no solution, such as prices for industries that need more of
    their goods than they make, only parameters for which they have one.
    """
    rng, around = np.random.default_rng(seed), centre(model)

    def draw(*lead: int) -> dict[str, np.ndarray]:
        values = {}
        for key, field in model.Params.fields.items():
            drawn = np.asarray(around[key]) * rng.uniform(0.8, 1.2, (*lead, *field.shape))
            values[key] = np.clip(drawn, *field.bounds)
        return values

    if not model.solved:
        return model.params(**draw(*(() if size is None else (size,))))
    candidates = draw(2 * (size or 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that some have none
        path = simulate(model, model.params(**candidates), periods=1)
    found = [np.isfinite(path[name][0]) for name in model.solved]
    solved = np.all([values.reshape(len(values), -1).all(axis=1) for values in found], axis=0)
    chosen = np.flatnonzero(solved)[: size or 1]
    assert len(chosen) == (size or 1)
    at: Any = chosen if size else chosen[0]
    return model.params(**{key: value[at] for key, value in candidates.items()})


DISTURBED: dict[str, dict[str, Any]] = {
    "PichlerEtAl2022DIO": {
        "supply_shock": np.array([0.4, 0.15, 0.12]),
        "fear_of_infection": 0.05,
        "other_final_demand": np.array([4.0, 4.5, 215.0]),
    },
}
"""Models that rest where several of their limits bind at once, and have a derivative to the left and
another one to the right there: shocks that take them elsewhere."""


def disturbed(model: Model, periods: int | None = None) -> dict[str, Any]:
    """The scenario for tests of derivatives, as arguments: one in which the model has them; and the key
    of a random model, whose derivatives are those of one run.

    The longer it is, the likelier another limit begins to bind within the step of a difference.
    """
    if model.name in SHORT:
        periods = SHORT[model.name]
    if model.name not in DISTURBED:
        return keyed(model) if periods is None else {"periods": periods, **keyed(model)}
    scenario = model.scenario(periods=periods or 20, **DISTURBED[model.name])
    return {"scenario": scenario, **keyed(model)}
