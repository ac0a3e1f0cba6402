"""One process of sweeps: GL06PC in C and by `sample.sweep`, or a model over batches on the device at hand.

Usage: _sweep_worker.py against_c|batches JSON-OPTIONS
"""

from __future__ import annotations

import ctypes
import functools
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _timing import answer, clock

from macrostat_jax import diff, models, sample, simulate

SERIES = ("government_demand", "wage_rate", "interest_rate")
BOUNDS = {
    "tax_rate": (0.1, 0.3),
    "propensity_to_consume_income": (0.5, 0.7),
    "propensity_to_consume_savings": (0.3, 0.5),
    "wealth_share_bills_constant": (0.5, 0.7),
    "wealth_share_bills_interest_rate": (4.0, 6.0),
    "wealth_share_bills_income": (0.0, 0.02),
}


def against_c(runs: int, periods: int, rounds: int) -> dict[str, Any]:
    """The shortest time of each, over rounds in which they take turns, and how far results are apart."""
    model = models.GL06PC
    design = sample.sobol(model, runs, BOUNDS)
    scenario = model.scenario(periods=periods)
    rows = [np.broadcast_to(getattr(scenario, name), (periods,)) for name in SERIES]
    data = np.linspace(90.0, 110.0, periods)
    library = C(design.points.T, np.stack(rows), data)
    target = jnp.asarray(data)

    def loss(path: Any) -> Any:
        return jnp.mean((path.national_income - target) ** 2)

    def paths() -> Any:
        return sample.sweep(model, design, periods=periods).values

    def losses() -> Any:
        return sample.sweep(model, design, keep=loss, periods=periods).values

    params = design.params(model)
    size = sample.chunk_size(runs, 1)
    parts = [jax.tree.map(lambda x, a=a: x[a : a + size], params) for a in range(0, runs, size)]

    def gradients() -> Any:
        found = [diff.gradient(model, loss, params=part, periods=periods) for part in parts]
        return jax.block_until_ready(found)

    calls: dict[str, Callable[[], Any]] = {
        "c_paths": lambda: library.paths("sweep", (runs, periods, 14)),
        "c_blocked_paths": lambda: library.paths("sweep_blocked", (14, periods, runs)),
        "paths": paths,
        "c_losses": lambda: library.losses("losses"),
        "c_blocked_losses": lambda: library.losses("losses_blocked"),
        "losses": losses,
        "gradients": gradients,
    }
    apart = {
        "paths": _apart(library, model, paths(), runs, periods),
        "losses": _gap(losses(), library),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):  # the first is not counted: it compiles
        for name, call in calls.items():
            times[name].append(clock(call))
    return {"apart": apart, **{name: min(found[1:]) for name, found in times.items()}}


class C:
    """The loops of sweep_c.c, compiled here."""

    def __init__(self, params: np.ndarray, scenario: np.ndarray, data: np.ndarray) -> None:
        self.inputs = [np.ascontiguousarray(x) for x in (params, scenario)]
        self.data, self.runs, self.periods = data, params.shape[1], scenario.shape[1]
        source = Path(__file__).with_name("sweep_c.c")
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "sweep.so"
            compiler = shlex.split(os.environ.get("CC", "cc"))
            flags = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-o", str(target)]
            subprocess.run([*compiler, *flags, str(source)], check=True)
            self.library = ctypes.CDLL(str(target))

    def _call(self, name: str, *arrays: np.ndarray) -> None:
        pointers = [ctypes.c_void_p(x.ctypes.data) for x in (*self.inputs, *arrays)]
        sizes = ctypes.c_ssize_t(self.runs), ctypes.c_ssize_t(self.periods)
        getattr(self.library, name)(*pointers, *sizes)

    def paths(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Into an array of its own, as every call of `sample.sweep` returns."""
        out = np.empty(shape)
        self._call(name, out)
        return out

    def losses(self, name: str) -> np.ndarray:
        out = np.empty(self.runs)
        self._call(name, self.data, out)
        return out


def _apart(library: C, model: Any, found: Any, runs: int, periods: int) -> float:
    """The largest difference of any number from both loops, relative to the largest of its variable."""
    one = library.paths("sweep", (runs, periods, 14))
    two = library.paths("sweep_blocked", (14, periods, runs))
    worst = 0.0
    for i, key in enumerate(model.State.fields):
        ours = getattr(found, key)
        size = np.abs(ours).max()
        for theirs in (one[:, :, i].T, two[i]):
            worst = max(worst, float(np.abs(ours - theirs).max() / size))
    return worst


def _gap(found: np.ndarray, library: C) -> float:
    both = (library.losses("losses"), library.losses("losses_blocked"))
    return max(float(np.abs(found / theirs - 1).max()) for theirs in both)


def batches(model: str, sizes: list[int], budget: float, cpu: bool) -> dict[str, Any]:
    """Simulations and gradients, of a loss of all variables, per second over batch sizes; and bytes per
    second of whole paths.

    Args:
        cpu: on the host's processors, whatever else there is.
    """
    device = jax.devices("cpu")[0] if cpu else jax.devices()[0]
    definition = models.get(model)
    figures: dict[str, Any] = {
        "platform": device.platform,
        "device": device.device_kind,
        "rows": [],
    }
    with jax.default_device(device):
        numbers = sum(math.prod(field.shape) for field in definition.State.fields.values())
        run_bytes = 8 * definition.periods * numbers
        most = {
            "simulations": sample.chunk_size(1 << 16, run_bytes),
            "gradients": sample.chunk_size(
                1 << 16, 1
            ),  # a call costs more, and no path is read again
        }

        def loss(path: Any) -> Any:  # of all variables: what a loss does not need is not computed
            return sum(jnp.mean(getattr(path, key)) for key in definition.real)

        program = jax.jit(lambda params: jax.vmap(loss, in_axes=1)(simulate(definition, params)))
        slopes = functools.partial(_gradient, definition, loss)
        for runs in sizes:
            row: dict[str, float] = {"runs": runs}
            for name, one in (("simulations", program), ("gradients", slopes)):
                size = min(most[name], runs)
                count, params = math.ceil(runs / size), _varied(definition, size)
                row[name] = size * count / _shortest(_repeated(one, params, count), budget)
            figures["rows"].append(row)
        figures |= _traffic(definition, max(most["simulations"], (1 << 28) // run_bytes), budget)
    return figures


def _gradient(model: Any, loss: Any, params: Any) -> Any:
    return diff.gradient(model, loss, params=params)


def _repeated(function: Callable[[Any], Any], params: Any, count: int) -> Callable[[], Any]:
    """So many calls; each waits for the one before, so that no more than one's results are in memory."""

    def calls() -> None:
        for _ in range(count):
            jax.block_until_ready(function(params))

    return calls


def _varied(model: Any, size: int) -> Any:
    spread = 1 + 1e-3 * np.linspace(-1, 1, size)
    values = jax.tree.map(np.asarray, model.params())
    return jax.tree.map(lambda x: jnp.asarray(np.multiply.outer(spread, x)), values)


def _traffic(model: Any, runs: int, budget: float) -> dict[str, float]:
    """Bytes of whole paths that are written per second, and what copying an array reaches."""
    params = _varied(model, runs)
    program = jax.jit(lambda params: simulate(model, params))
    size = sum(x.nbytes for x in jax.tree.leaves(program(params)))
    seconds = _shortest(lambda: jax.block_until_ready(program(params)), budget)
    whole = jnp.zeros(max(size, 1 << 27) // 8)
    copy = jax.jit(lambda x: x + 1.0)
    copying = _shortest(lambda: copy(whole).block_until_ready(), budget)
    return {
        "path_bytes_per_second": size / seconds,
        "copy_bytes_per_second": 2 * whole.nbytes / copying,
    }


def _shortest(call: Callable[[], Any], budget: float) -> float:
    """The shortest of some calls after one that compiles: three, or as many as the budget has room for."""
    call()
    times, start = [clock(call)], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < budget:
        if times[0] > budget:
            break
        times.append(clock(call))
    return min(times)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    task, given = sys.argv[1], json.loads(sys.argv[2])
    answer({"against_c": against_c, "batches": batches}[task](**given))
