"""A small model for sweeps, and what is kept of it: importable by the processes that tests start."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from macrostat_jax import Model, Record, Scalar, Vector, exogenous, index, param

WEIGHTS = np.linspace(-1.0, 1.0, 60).reshape(3, 20)


class Params(Record):
    rate: Scalar = param(0.5, bounds=(0, 2))
    share: Vector = param((0.2, 0.3, 0.5), bounds=(0, 1), shape=3)


class Scenario(Record):
    g: Scalar = exogenous(1.0)


class State(Record):
    x: Scalar = index("x")
    parts: Vector = index("parts", shape=3)


def start(params, scenario):
    return State.filled(0.0)


def step(prior, params, scenario):
    x = params.rate * prior.x + scenario.g
    return State(x=x, parts=params.share * jnp.exp(-0.01 * x) + 0.1 * prior.parts)


TOY = Model(
    "TOY",
    Params,
    Scenario,
    State,
    start,
    step,
    periods=20,
    scenarios={"boom": {"g": 2.0}, "cut": {"rate_multiply": 0.5}},
    trigger=10,
)
BOUNDS = {"rate": (0.1, 0.9), "share[1]": (0.1, 0.6)}


def noisy_step(prior, params, scenario, key):
    drawn = jax.random.normal(key, (), prior.x.dtype)
    return State(x=params.rate * prior.x + drawn, parts=params.share)


NOISY = Model("NOISY", Params, Scenario, State, start, noisy_step, periods=8)


def keep(path: Any) -> Any:
    """A matrix product and a mean over time, whose last digits depend on the size of a batch."""
    mixed = jnp.asarray(WEIGHTS, path.x.dtype) @ path.parts
    return {"last": path.x[-1], "mean": path.x.mean(), "mixed": mixed.sum(axis=1)}


def slowly(path: Any) -> Any:
    """Each block takes a while."""

    def wait(x):
        time.sleep(0.06)
        return np.asarray(x)

    shape = jax.ShapeDtypeStruct((), path.x.dtype)
    return jax.pure_callback(wait, shape, path.x[-1], vmap_method="expand_dims")


def fails_at(path: Any) -> Any:
    """Fails for rates above 0.85 while the file that FAIL names is there."""

    def fail(rate):
        marker = os.environ.get("FAIL")
        if marker and Path(marker).exists() and np.max(rate) > 0.85:
            raise ArithmeticError("this one cannot be computed")
        return np.asarray(rate)

    return _called(fail, path)


def kills_at(path: Any) -> Any:
    """The process dies for rates above 0.85."""

    def die(rate):
        if np.max(rate) > 0.85:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.asarray(rate)

    return _called(die, path)


def _called(function: Any, path: Any) -> Any:
    shape = jax.ShapeDtypeStruct((), path.x.dtype)
    rate = (path.x[1] - path.x[0]) / path.x[0]
    return jax.pure_callback(function, shape, rate, vmap_method="expand_dims")
