"""Runs and derivatives of models by other engines than JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._inputs import Inputs, Plan, prepare
from .._model import Model
from .._trajectory import trajectory
from ..diff._labelled import Jacobian
from ..diff._target import Of, Target, Wrt, resolve_of, resolve_wrt, with_initial, with_noise
from ._dual import Dual, Number
from ._evaluate import Engine
from ._numpy import NumPy

ENGINES: dict[str, Callable[[], Engine]] = {"numpy": NumPy, "dual": Dual}


def engine_of(engine: str | Engine) -> Engine:
    """An engine by its name, or as it is.

    Raises:
        ValueError: an unknown name; with the list of what there is.
    """
    if isinstance(engine, Engine):
        return engine
    if engine not in ENGINES:
        known = ", ".join(repr(name) for name in ENGINES)
        raise ValueError(
            f"Unknown engine {engine!r}. There are: {known}; with torch, bridge.Torch()."
        )
    return ENGINES[engine]()


def simulate(
    model: Model, params: Any = None, scenario: Any = None, *, engine: str | Engine, **inputs: Any
) -> Any:
    """Runs a model with the operations of another engine: the program is JAX's, the arithmetic is not.

    Args:
        model: the model. A random one takes `noise`, or a `key` from which JAX draws it.
        params, scenario, and further inputs: as in `macrostat_jax.simulate`; one run, no batch.
        engine: `"numpy"`, `"dual"`, or an engine, such as `bridge.Torch()`.

    Returns:
        The model's `State` of NumPy arrays of shape (T, *shape), in float64 unless the inputs say
        otherwise.

    Raises:
        UnsupportedOperation: a primitive that the engine lacks. As `macrostat_jax.simulate` otherwise.
    """
    chosen = engine_of(engine)
    with jax.enable_x64(True):
        given, plan = _prepared(model, params=params, scenario=scenario, **inputs)
        leaves, treedef = jax.tree.flatten(given)
        program, shapes = jax.make_jaxpr(
            lambda *leaves: trajectory(plan, treedef.unflatten(leaves)), return_shape=True
        )(*leaves)
    values = [chosen.asarray(np.asarray(leaf)) for leaf in leaves]
    path = [chosen.numpy(value) for value in chosen.run(program, *values)]
    return jax.tree.unflatten(jax.tree.structure(shapes), path)


def traced(
    model: Model, *, dtype: np.dtype | None = None, **inputs: Any
) -> tuple[Any, dict[str, np.ndarray]]:
    """A run as a program of its parameters, for engines that keep it.

    Args:
        model, inputs: as in `simulate`.
        dtype: float32 or float64, of the whole run; default: that of the inputs.

    Returns:
        The program, a closed jaxpr from the parameters to the path of every variable, both in the
        declared order; and the parameters' values, by name.
    """
    return program_of(*prepared(model, dtype=dtype, **inputs))


def prepared(model: Model, *, dtype: np.dtype | None = None, **inputs: Any) -> tuple[Inputs, Plan]:
    """What a run is traced from, as arrays of NumPy: what can be kept, and sent to another process."""
    with jax.enable_x64(True):
        given, plan = _prepared(model, dtype=dtype, **inputs)
        return jax.tree.map(np.asarray, given), plan


def program_of(
    given: Inputs, plan: Plan, dtype: np.dtype | None = None
) -> tuple[Any, dict[str, np.ndarray]]:
    """What `traced` returns, of what `prepared` returns."""
    with jax.enable_x64(True):
        given = _cast(jax.tree.map(jnp.asarray, given), dtype)
        start = {key: np.asarray(getattr(given.params, key)) for key in plan.model.Params.fields}

        def run(*values: Any) -> list[Any]:
            params = plan.model.Params(**dict(zip(start, values, strict=True)))
            path = trajectory(plan, given._replace(params=params))
            return [getattr(path, key) for key in plan.model.State.fields]

        return jax.make_jaxpr(run)(*start.values()), start


def jacobian(
    model: Model, of: Of = None, *, wrt: Wrt = "params", engine: str | Engine, **inputs: Any
) -> Jacobian:
    """The derivative of a model's outputs by another engine's own differentiation.

    An opinion independent of JAX's: the program is traced by JAX before anything is differentiated. Rules
    that a program declares for itself (`jax.custom_jvp`) are not asked: its code is differentiated.

    Args:
        model, of, wrt, further inputs: as in `macrostat_jax.diff.jacobian`; one run, no batch.
        engine: one that differentiates: `"dual"` (forward mode by dual numbers in NumPy), or
            `bridge.Torch()` (torch's autograd or torch.func).

    Returns:
        The labelled Jacobian; its `mode` is the engine's name.

    Raises:
        ValueError: an engine without derivatives. UnsupportedOperation: a primitive that it lacks.
    """
    chosen = engine_of(engine)
    differentiate = getattr(
        chosen, "jacobian", _by_dual_numbers if isinstance(chosen, Dual) else None
    )
    if differentiate is None:
        raise ValueError(
            f"The {chosen.name} engine has no derivatives: use 'dual' or bridge.Torch()."
        )
    with jax.enable_x64(True):
        given, plan = _prepared(model, **inputs)
        resolved = resolve_wrt(model, wrt)
        given = with_initial(plan, with_noise(plan, given, resolved), resolved)
        target = Target(plan, resolve_of(model, of), resolved)
        at = target.split(given)
        program, shapes = jax.make_jaxpr(lambda x: target.outputs(given, x), return_shape=True)(at)
    labels = sorted(at)  # as JAX flattens dictionaries
    columns = differentiate(chosen, program, [np.asarray(at[label]) for label in labels])
    outputs = [_label(path) for path, _ in jax.tree_util.tree_flatten_with_path(shapes)[0]]
    found = dict(zip(outputs, columns, strict=True))
    if not callable(target.of):
        found = {key: found[key] for key in target.of}
    values = {
        output: {one.label: blocks[labels.index(one.label)] for one in resolved}
        for output, blocks in found.items()
    }
    return Jacobian(model, resolved, values, chosen.name, at)


def _prepared(model: Model, *, dtype: np.dtype | None = None, **inputs: Any) -> tuple[Inputs, Plan]:
    key = inputs.get("key")
    given, plan = prepare(model, **inputs)
    if plan.batch is not None:
        raise ValueError(f"{model.name}: other engines run one simulation at a time, not a batch.")
    if key is not None:
        if model.Noise is None:
            raise ValueError(f"{model.name} draws from its key by itself: only JAX can run it.")
        noise = model.noise(key, periods=plan.periods, dtype=dtype or np.dtype(float))
        given, plan = prepare(model, **{**inputs, "key": None, "noise": noise})
    return _cast(given, dtype), plan


def _cast(given: Inputs, dtype: np.dtype | None) -> Inputs:
    if dtype is None:
        return given
    return jax.tree.map(lambda x: x.astype(dtype) if x.dtype.kind == "f" else x, given)


def _label(path: tuple[Any, ...]) -> str:
    return (
        "".join(str(getattr(part, "key", getattr(part, "idx", part))) for part in path) or "output"
    )


def _by_dual_numbers(
    engine: Engine, program: Any, x: Sequence[np.ndarray]
) -> list[list[np.ndarray]]:
    """One run per element of the inputs: output -> input -> (*output shape, *input shape)."""
    found: list[list[np.ndarray]] = []
    shapes = [tuple(v.aval.shape) for v in program.jaxpr.outvars]
    for shape in shapes:
        found.append([np.zeros((*shape, *one.shape)) for one in x])
    for at, one in enumerate(x):
        for element in np.ndindex(one.shape):
            direction = np.zeros(one.shape)
            direction[element] = 1.0
            given = [Number(v, direction if i == at else None) for i, v in enumerate(x)]
            for blocks, shape, result in zip(
                found, shapes, engine.run(program, *given), strict=True
            ):
                if result.dot is not None:
                    blocks[at][(*[slice(None)] * len(shape), *element)] = result.dot
    return found
