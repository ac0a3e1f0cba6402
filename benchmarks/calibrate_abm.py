"""Calibrating the agent-based model: gradients along the paths against CMA-ES.

    python benchmarks/calibrate_abm.py [--seconds 60] [--json FILE] [--figure FILE]

Ten parameters of TwoMarketsABM are looked for by the moments of its aggregates: data are the moments of
many runs at parameters that are known, and every search starts somewhere else. Both methods see the same
loss, whose runs have common random numbers, of their own for every search, and the same coordinates
(the logit of a parameter's place in its range), and both have compiled their functions before the clock
starts. Adam (optax) follows derivatives along the paths, which leave out that other parameters move other
households from firm to firm; CMA-ES (the package cma) evaluates a generation in one batch. What is
compared is the loss on runs that neither has seen, at equal wall time and at equal simulations (a
gradient counts as one), the median over ten starts; whichever is better is named.

Needs `pip install optax cma`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _harness import machine

from macrostat_jax import models, run_keys, simulate

RANGES = {
    "markup": (0.1, 0.6),
    "price_adjustment": (0.05, 0.5),
    "wage_adjustment": (0.01, 0.2),
    "normal_unemployment": (0.01, 0.15),
    "tax_rate": (0.05, 0.4),
    "money_growth": (0.0, 0.01),
    "skill_dispersion": (0.2, 1.0),
    "technology_persistence": (0.5, 0.98),
    "technology_shock": (0.003, 0.03),
    "firm_technology_shock": (0.005, 0.06),
}
OBSERVED = (
    "output",
    "unemployment",
    "vacancies",
    "inflation",
    "wage_share",
    "income_gini",
    "wealth_gini",
    "price_dispersion",
)


def moments(path: Any, burn_in: int) -> jax.Array:
    """Means, standard deviations and autocorrelations of one run's aggregates."""
    observed = {name: getattr(path, name)[burn_in:] for name in OBSERVED}
    observed["output"] = jnp.log(observed["output"])
    means = [jnp.mean(observed[name]) for name in OBSERVED[1:]]
    spreads = [jnp.std(observed[name]) for name in OBSERVED[:5]]
    persistence = []
    for name in ("output", "unemployment", "inflation"):
        x = observed[name] - jnp.mean(observed[name])
        persistence.append(jnp.mean(x[1:] * x[:-1]) / jnp.mean(x**2))
    return jnp.stack([*means, *spreads, *persistence])


class Problem:
    """The data, and the loss of a point of the search space."""

    def __init__(self, households: int, firms: int, periods: int, runs: int) -> None:
        self.model = models.TwoMarketsABM.resize(household=households, firm=firms)
        self.periods, self.runs = periods, runs
        truth = self.model.params()
        self.truth = np.array([float(getattr(truth, name)) for name in RANGES])
        self.low, self.high = np.array(list(RANGES.values())).T
        many = jax.jit(self._moments)(jnp.asarray(self.place(self.truth)), run_keys(10**6, 200))
        self.data = jnp.mean(many, 0)
        self.scale = jnp.std(many, 0) + 0.05 * jnp.abs(self.data)

        self.value = jax.jit(self._loss)
        self.values = jax.jit(jax.vmap(self._loss, in_axes=(0, None)))

    def place(self, values: np.ndarray) -> np.ndarray:
        """Parameters as logits of their place in their range."""
        share = (values - self.low) / (self.high - self.low)
        return np.log(share / (1 - share))

    def parameters(self, point: Any) -> Any:
        return self.low + (self.high - self.low) * jax.nn.sigmoid(point)

    def _moments(self, point: Any, keys: Any) -> jax.Array:
        values = dict(zip(RANGES, self.parameters(point), strict=True))
        params = self.model.params().replace(**values)
        path = simulate(self.model, params, key=keys, periods=self.periods, record=OBSERVED)
        return jax.vmap(partial(moments, burn_in=self.periods // 4), in_axes=1)(path)

    def _loss(self, point: Any, keys: Any) -> jax.Array:
        """Mean squared distance of the moments, averaged over the runs: relative to the standard
        deviation of one run's moment, and 5 % of the moment, to which it is believed to be measured."""
        gap = (jnp.mean(self._moments(point, keys), 0) - self.data) / self.scale
        return jnp.mean(gap**2)


@dataclasses.dataclass
class Trace:
    """What a search had found, after how many simulations and seconds."""

    simulations: list[int] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    points: list[Any] = dataclasses.field(default_factory=list)

    def add(self, simulations: int, seconds: float, point: Any) -> None:
        self.simulations.append(simulations)
        self.seconds.append(seconds)
        self.points.append(np.asarray(point))

    def at(self, *, seconds: float = np.inf, simulations: float = np.inf) -> Any:
        """The best point known by then; the start, if nothing was."""
        known = [
            i
            for i, (n, s) in enumerate(zip(self.simulations, self.seconds, strict=True))
            if n <= simulations and s <= seconds
        ]
        return self.points[known[-1] if known else 0]


def adam(problem: Problem, start: np.ndarray, keys: Any, seconds: float, seed: int) -> Trace:
    import optax

    optimiser = optax.adam(0.1)

    @jax.jit
    def update(point: Any, state: Any, keys: Any) -> Any:
        loss, slope = jax.value_and_grad(problem._loss)(point, keys)
        # A slope that is not finite, of parameters at the edge of what makes sense, moves nothing.
        change, state = optimiser.update(jnp.nan_to_num(slope), state)
        return loss, optax.apply_updates(point, change), state

    point: Any = jnp.asarray(start)
    state = optimiser.init(point)
    jax.block_until_ready(update(point, state, keys))  # compiles
    trace, best, done = Trace(), np.inf, 0
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        loss, after, state = update(point, state, keys)
        done += problem.runs
        if float(loss) < best or not trace.points:
            best = float(loss)
            trace.add(done, time.perf_counter() - begin, point)
        point = after
    trace.add(done, time.perf_counter() - begin, trace.points[-1])
    return trace


def cma_es(problem: Problem, start: np.ndarray, keys: Any, seconds: float, seed: int) -> Trace:
    import cma

    search = cma.CMAEvolutionStrategy(start, 1.0, {"seed": seed + 1, "verbose": -9})
    population = np.array(search.ask())
    jax.block_until_ready(problem.values(population, keys))  # compiles
    trace, best, done = Trace(), np.inf, 0
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        points = search.ask()
        losses = np.nan_to_num(np.asarray(problem.values(np.array(points), keys)), nan=1e6)
        search.tell(points, losses.tolist())
        done += len(points) * problem.runs
        if losses.min() < best:
            best = float(losses.min())
            trace.add(done, time.perf_counter() - begin, points[int(losses.argmin())])
    trace.add(done, time.perf_counter() - begin, trace.points[-1])
    return trace


METHODS: dict[str, Callable[..., Trace]] = {"Adam": adam, "CMA-ES": cma_es}


def race(problem: Problem, seconds: float, starts: int) -> dict[str, Any]:
    """All searches, one after the other, the methods in alternating order, and how good they are on
    runs that none has seen."""
    traces: dict[str, list[Trace]] = {name: [] for name in METHODS}
    begins = []
    for seed in range(starts):
        drawn = np.random.default_rng(seed).uniform(0.1, 0.9, len(RANGES))
        start = np.log(drawn / (1 - drawn))
        begins.append(start)
        keys = run_keys(seed, problem.runs)
        for name in list(METHODS) if seed % 2 == 0 else list(METHODS)[::-1]:
            traces[name].append(METHODS[name](problem, start, keys, seconds, seed))
    unseen = run_keys(2 * 10**6, 64)

    def judged(point: np.ndarray) -> float:
        return float(problem.value(jnp.asarray(point), unseen))

    times = np.geomspace(seconds / 50, seconds, 12)
    most = min(trace.simulations[-1] for found in traces.values() for trace in found)
    counts = np.geomspace(most / 50, most, 12)
    result: dict[str, Any] = {
        "at_the_start": statistics.median(judged(start) for start in begins),
        "at_the_truth": judged(problem.place(problem.truth)),
        "seconds": times.tolist(),
        "simulations": counts.tolist(),
        "methods": {},
    }
    for name, found in traces.items():
        by_time = [[judged(one.at(seconds=s)) for one in found] for s in times]
        by_count = [[judged(one.at(simulations=n)) for one in found] for n in counts]
        last = np.array([problem.parameters(one.points[-1]) for one in found])
        width = problem.high - problem.low
        result["methods"][name] = {
            "simulations": statistics.median(one.simulations[-1] for one in found),
            "by_time": [statistics.median(losses) for losses in by_time],
            "by_simulations": [statistics.median(losses) for losses in by_count],
            "losses_at_equal_time": by_time[-1],
            "losses_at_equal_simulations": by_count[-1],
            "error_of_parameters_in_their_ranges": dict(
                zip(
                    RANGES, np.median(np.abs(last - problem.truth) / width, 0).tolist(), strict=True
                )
            ),
        }
    for kind in ("time", "simulations"):
        losses = {n: m[f"losses_at_equal_{kind}"] for n, m in result["methods"].items()}
        medians = {name: statistics.median(values) for name, values in losses.items()}
        result[f"better_at_equal_{kind}"] = min(medians, key=lambda name: medians[name])
        result[f"medians_at_equal_{kind}"] = medians
        pairs = zip(losses["Adam"], losses["CMA-ES"], strict=True)
        result[f"starts_from_which_Adam_is_better_at_equal_{kind}"] = sum(a < c for a, c in pairs)
    return result


def picture(result: dict[str, Any], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, at, by, label in zip(
        axes,
        ("seconds", "simulations"),
        ("by_time", "by_simulations"),
        ("seconds", "simulations (a gradient is one)"),
        strict=True,
    ):
        for (name, found), style in zip(result["methods"].items(), ("-o", "--s"), strict=True):
            axis.loglog(result[at], found[by], style, markersize=4, label=name)
        axis.axhline(result["at_the_truth"], color="grey", linewidth=1, label="the true parameters")
        axis.set_xlabel(label)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel("loss on unseen runs, median")
    axes[0].legend()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of each search (60)")
    parser.add_argument("--starts", type=int, default=10, help="searches of each method (10)")
    parser.add_argument("--households", type=int, default=500)
    parser.add_argument("--firms", type=int, default=25)
    parser.add_argument("--periods", type=int, default=120)
    parser.add_argument("--runs", type=int, default=16, help="runs that a loss averages (16)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--figure", type=Path, metavar="FILE")
    given = parser.parse_args()
    problem = Problem(given.households, given.firms, given.periods, given.runs)
    result = race(problem, given.seconds, given.starts)
    setting = {key: value for key, value in vars(given).items() if key not in ("json", "figure")}
    result = {"setting": setting, "machine": machine(), **result}
    print(json.dumps({k: v for k, v in result.items() if k != "methods"}, indent=1))
    for name, found in result["methods"].items():
        print(name, json.dumps(found, indent=1))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    if given.figure:
        picture(result, given.figure)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
