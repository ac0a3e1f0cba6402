"""Is a model differentiable, in which parameters, and if not: in which line?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import numpy as np

from .._model import Model
from .._simulate import simulate
from . import _diagnose_ladder as ladder
from ._check import averages
from ._derivatives import _target
from ._diagnose_report import Alternative, Diagnosis
from ._diagnose_runs import Case, cast_floats, largest_distance
from ._diagnose_verdicts import Verdicts
from ._target import Of, Wrt


def diagnose(
    model: Model,
    loss: Of | Callable[[Any], Any] = None,
    wrt: Wrt = "params",
    *,
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
    elements: bool | None = None,
    reach: float = ladder.LONGEST,
    rtol: float = 1e-5,
    sharpness: Sequence[float] = (),
    second_order: bool = False,
    engine: str | None = None,
) -> Diagnosis:
    """A verdict on every parameter, and the line of the model's file where what is wrong begins.

    - **smooth**: the automatic derivative is that of the function, all over the steps looked at.
    - **kink**, **jump**: within `reach` the derivative, or the value, changes at once. Told by
      enlarging the place, without any derivative. Named are the first period, the variable and the
      operation whose branch changes.
    - **flat**: no derivative but zero: the parameter is not read, is derived by a constraint, or only
      decides a comparison (which is named).
    - **non-finite**: a value or a derivative is NaN or infinite; named is where it arises.
    - **wrong**: the function is smooth and its derivative another one: a hand-written rule, a
      `stop_gradient`, a call of the host.
    - **ill-scaled**: finite differences cannot decide, or a cast to a narrower float is on the way.
    - **non-deterministic**: the same call gives other numbers.

    All of it is computed in float64, whatever JAX's default. A random model runs with the same `key` (or
    `noise`) everywhere: common random numbers.

    Args:
        model: the model.
        loss: what is differentiated: as `of` in `jacobian`; the default is the mean over time of every
            variable. A function compiles once per function object.
        wrt, params, scenario, shocks, initial, periods, key, noise: as in `jacobian`.
        elements: a verdict for every element of an array, or for arrays as wholes, which then move
            along one random direction. Default: elements, up to 128 of them.
        reach: the longest step, as a share of each value (of 1, where that is 0).
        rtol: the relative tolerance of derivatives, beyond the error bars of the differences.
        sharpness: for models with that option: how far from its exact path each value takes it.
        second_order: also compare second derivatives with differences of the gradient.
        engine: `"dual"`: also differentiate by dual numbers in NumPy (`macrostat_jax.engines`), which share
            nothing with JAX but the traced program: one more test, in a random direction.

    Returns:
        A `Diagnosis`; `print(diagnose(model))` shows it.

    Raises:
        TypeError: no model, or a random one without a key. ValueError: a reach or sharpness that makes no
            sense. As `jacobian` otherwise.
    """
    if not (np.isfinite(reach) and 0 < reach <= 0.1):
        raise ValueError(f"reach must be a share greater than 0 and at most 0.1, not {reach}.")
    if engine not in (None, "dual"):
        raise ValueError(f"Unknown engine {engine!r}. There is: 'dual'.")
    if sharpness and "sharpness" not in getattr(model, "options", {}):
        raise ValueError(f"{model.name} has no option 'sharpness' to smooth its switches with.")
    quiet = np.errstate(
        invalid="ignore", divide="ignore", over="ignore"
    )  # NaN is what is looked for
    with jax.enable_x64(True), quiet:
        target, inputs = _target(
            model,
            averages if loss is None else loss,
            wrt,
            "reverse",
            cast_floats(params, np.float64),
            cast_floats(scenario, np.float64),
            cast_floats(shocks, np.float64),
            cast_floats(initial, np.float64),
            periods,
            key,
            cast_floats(noise, np.float64),
            False,
        )
        if target.plan.batch is not None:
            raise ValueError("A diagnosis takes one run, not a batch of parameters.")
        work = Verdicts(model, Case.of(target, inputs), elements, reach, rtol)
        found = work.findings()
        tests = [] if work.repeated else work.tests(found, second_order)
        if engine is not None and not work.repeated:
            tests += work.opinion()
        notes = [*work.notes, *work.float32_note()]
        alternatives = [_alternative(model, inputs, target.plan.periods, s) for s in sharpness]
    if model.options.get("sharpness", 0) is None and not sharpness:
        notes.append(
            f"{model.name}.configure(sharpness=...) rounds its switches off; "
            "diagnose(..., sharpness=(...)) says how far from the exact path."
        )
    random = ""
    if model.random or model.random_start:
        what = "noise" if noise is not None else "key"
        random = f"common random numbers: the same {what} in every run"
    return Diagnosis(
        model,
        work.case.outputs,
        tuple(found),
        tuple(tests),
        tuple(alternatives),
        tuple(notes),
        work.steps,
        work.ladders,
        random,
    )


def _alternative(model: Model, inputs: Any, periods: int, sharpness: float) -> Alternative:
    given = inputs._asdict()
    exact = simulate(model.configure(sharpness=None), periods=periods, **given)
    smooth = simulate(model.configure(sharpness=sharpness), periods=periods, **given)
    return Alternative(float(sharpness), *largest_distance(exact, smooth))
