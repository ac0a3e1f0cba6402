"""One process of structured derivatives. No torch in here.

Usage: _sequence_worker.py paths|long|choice JSON-OPTIONS
"""

from __future__ import annotations

import dataclasses
import json
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _timing import answer, lap_together

from macrostat_jax import diff, models, steady_state


def paths(model: str, periods: int, budget: float) -> dict[str, Any]:
    """Every variable by every exogenous series in every period: whole, along a path, at a steady state."""
    definition = models.get(model)
    rest = steady_state(definition)
    given: dict[str, Any] = dict(wrt="scenario", periods=periods, initial=rest)

    def dense(mode: str) -> Any:
        return diff.jacobian(definition, mode=mode, **given)

    def at_rest() -> Any:
        return diff.sequence_space_jacobian(
            definition, wrt="scenario", periods=periods, at="steady state"
        )

    calls = {
        "forward": lambda: jax.block_until_ready(dense("forward").values),
        "reverse": lambda: jax.block_until_ready(dense("reverse").values),
        "path": lambda: diff.sequence_space_jacobian(definition, **given),
        "kernel": at_rest,
        # Views of one response are enough for most uses; this is the matrix written out.
        "written": lambda: jax.tree.map(np.array, at_rest().values),
    }
    figures: dict[str, Any] = lap_together(calls, budget)
    exact = dense("forward").matrix()
    largest = np.abs(exact).max()
    for name, found in (("path", calls["path"]()), ("kernel", at_rest())):
        figures[f"gap_{name}"] = float(np.abs(found.matrix() - exact).max() / largest)
    figures["of"] = " x ".join(map(str, exact.shape))
    return figures


def squares(state: Any) -> Any:
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(state))


def squares_at_the_end(path: Any) -> Any:
    return squares(path[-1])


def long(model: str, periods: int, budget: float) -> dict[str, Any]:
    """Reverse mode over a long run, of a loss of the final state: plain, and within a limit of memory."""
    definition = models.get(model)
    given: dict[str, Any] = dict(scenario=definition.scenario(periods=periods))
    ways = {
        "whole path": (squares_at_the_end, "reverse", 1e12),
        "plain": (diff.final(squares), "reverse", 1e12),
        "sqrt": (diff.final(squares), "sqrt", 1e12),
        "recursive": (diff.final(squares), "recursive", 1e12),
        "auto": (diff.final(squares), "auto", 10e6),
    }
    chosen = {
        name: diff.choose_strategy(definition, of, strategy=strategy, memory=limit, **given)
        for name, (of, strategy, limit) in ways.items()
    }
    calls = {
        name: partial(diff.gradient, definition, ways[name][0], strategy=chosen[name], **given)
        for name in ways
    }
    figures = lap_together(calls, budget, turns=3)
    return {
        "time": figures,
        "memory": {name: one.memory for name, one in chosen.items()},
        "name": {name: one.name for name, one in chosen.items()},
    }


def mean_square(path: Any) -> Any:
    return sum(jnp.mean(leaf**2) for leaf in jax.tree.leaves(path))


def choice(model: str, periods: int, budget: float) -> dict[str, Any]:
    """What `auto` picked against every other way, for losses and paths by few and by many inputs."""
    definition = models.get(model)
    one = next(iter(definition.Params.fields))
    variable = next(iter(definition.State.fields))
    cases = {
        "loss by one parameter": (mean_square, one),
        "loss by parameters": (mean_square, "params"),
        "loss by parameters and scenario": (mean_square, ("params", "scenario")),
        "one path by parameters": (variable, "params"),
    }
    found: dict[str, Any] = {}
    for name, (of, wrt) in cases.items():
        given: dict[str, Any] = dict(wrt=wrt, periods=periods)
        picked = diff.choose_strategy(definition, of, **given)
        bare = dataclasses.replace(picked, why="", work=0.0)
        ways = {
            "picked": bare,
            "forward": diff.Strategy("forward"),
            "reverse": diff.Strategy("reverse"),
            "sqrt": diff.Strategy("reverse", 2),
        }
        calls = {
            way: partial(diff.jacobian, definition, of, strategy=strategy, **given)
            for way, strategy in ways.items()
        }
        found[name] = lap_together(calls, budget) | {"name": picked.name}
    return found


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    task, given = sys.argv[1], json.loads(sys.argv[2])
    tasks = {"paths": paths, "long": long, "choice": choice}
    answer(tasks[task](**given) | {"platform": jax.default_backend()})


if __name__ == "__main__":
    main()
