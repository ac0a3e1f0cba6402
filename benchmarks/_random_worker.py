"""One process of a random model: the torch API, run by the peer's Python and by ours, or our core.

Usage: _random_worker.py api|core|mark0|mark0_core JSON-OPTIONS
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from typing import Any

from _timing import answer, lap, lap_together

logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")


def api(periods: int, substeps: int, budget: float) -> dict[str, Any]:
    import macrostat
    from macrostat.models import get_model_classes

    classes = get_model_classes("KirmansAnts")
    parameters: Any = classes.Parameters()
    # The peer's constructors take no hyperparameters.
    parameters.hyper.update(timesteps=periods, substeps=substeps, dt=1 / substeps)
    model = classes.Model(parameters=parameters)
    density = model.simulate()["density"].reshape(-1)[:6]
    return {
        "package": str(macrostat.__file__),
        "simulate": lap(model.simulate, budget),
        "density": [float(value) for value in density],
    }


def mark0(periods: int, firms: int, budget: float) -> dict[str, Any]:
    """Seconds per run and per gradient, in reverse mode; and in forward mode, where there is one."""
    import macrostat
    from macrostat.diff import JacobianAutograd
    from macrostat.models import get_model_classes

    classes = get_model_classes("Mark0COVID")
    # The second is an option of ours: the rule that the peer has.
    hyper = {"timesteps": periods, "N_firms": firms, "target_without_reaction": True}
    model = classes.Model(parameters=classes.Parameters(hyperparameters=hyper))

    def loss(output: Any) -> Any:
        return output["Unemployment"][-1].sum()

    jacobian = JacobianAutograd(model)
    calls = {
        "simulate": model.simulate,
        "gradient": lambda: jacobian.compute(loss, mode="rev"),
        "forward": lambda: jacobian.compute(loss, mode="fwd"),
    }
    found = {}
    for name, call in calls.items():
        try:
            call()  # the first call, which compiles, is not counted
        except Exception as error:  # the peer's, which has no forward mode here
            print(f"{name}: {type(error).__name__}", file=sys.stderr)
            if name != "forward":
                raise
        else:
            found[name] = lap(call, budget)
    path = model.simulate()["Unemployment"].reshape(-1)[:6]
    return {
        "package": str(macrostat.__file__),
        **found,
        "unemployment": [float(value) for value in path],
    }


def core(periods: int, substeps: int, budget: float, runs: int) -> dict[str, Any]:
    """Seconds per run: alone, and in a batch of seeds. In float64, as the peer computes."""
    import jax

    from macrostat_jax import models, run_keys, simulate

    model = models.KirmansAnts.resize(substep=substeps)

    def call(keys: Any) -> Any:
        return lambda: jax.block_until_ready(simulate(model, key=keys, periods=periods))

    with jax.enable_x64(True):
        keys = run_keys(0, runs)
        found = lap_together({"alone": call(keys[0]), "batch": call(keys)}, budget, turns=2)
    return {**found, "batch": found["batch"] / runs}


def mark0_core(periods: int, firms: int, budget: float) -> dict[str, Any]:
    """Seconds per run and per gradient of the last unemployment by all parameters, draws included, in the
    user's own `jax.jit`; and in forward mode, all directions at once."""
    import jax

    from macrostat_jax import models, simulate

    model = models.Mark0COVID.resize(firm=firms).configure(target_without_reaction=True)

    def loss(params: Any) -> Any:
        return simulate(model, params, key=key, periods=periods).unemployment[-1]

    def call(transformed: Any) -> Any:
        compiled = jax.jit(transformed)
        return lambda: jax.block_until_ready(compiled(params))

    with jax.enable_x64(True):
        key, params = jax.random.key(0), model.params()
        calls = {
            "simulate": call(lambda p: simulate(model, p, key=key, periods=periods)),
            "gradient": call(jax.grad(loss)),
            "forward": call(jax.jacfwd(loss)),
        }
        return lap_together(calls, budget, turns=3)


if __name__ == "__main__":
    task, given = sys.argv[1], json.loads(sys.argv[2])
    tasks = {"api": api, "core": core, "mark0": mark0, "mark0_core": mark0_core}
    answer(tasks[task](**given))
