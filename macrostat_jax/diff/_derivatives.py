"""Jacobians, products, gradients and Hessians of a model, compiled whole."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from .._inputs import Inputs, prepare
from .._model import Model
from .._trajectory import alone
from ._labelled import Jacobian
from ._target import Of, Target, Wrt, resolve_of, resolve_wrt, with_initial, with_noise

MODES = ("auto", "forward", "reverse")


def jacobian(
    model: Model,
    of: Of = None,
    *,
    wrt: Wrt = "params",
    mode: str = "auto",
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
    checkpoint: bool | int = False,
    chunk: int | None = None,
    strategy: Any = None,
    memory: float | None = None,
) -> Jacobian:
    """The derivative of a model's outputs with respect to its inputs, labelled.

    Args:
        model: the model.
        of: the outputs: a variable's name, several names, None for all variables, or a function from
            the path of states to a pytree of arrays. It compiles once per function object, so define
            it once rather than writing the lambda in the call.
        wrt: the inputs: `"params"`, `"scenario"` (every series in every period), `"initial"`, a single
            name (`"tax_rate"`, `"scenario.government_demand"`, `"initial.household_money_stock"`), or
            several of these.
        mode: `"forward"` (cost grows with the inputs), `"reverse"` (with the outputs), or `"auto"`:
            forward where the outputs are at least as many as the inputs.
        params, scenario, shocks, initial, periods, key, noise, checkpoint: as in `simulate`.
        chunk: how many inputs (forward) or outputs (reverse) to follow at a time, which bounds the memory.
        strategy: in place of mode, checkpoint and chunk: `"auto"`, or another of `choose_strategy`, or what
            that function returned. memory: a limit in bytes to the temporary memory.

    Returns:
        A `Jacobian`: for output o and input i, an array of shape (*shape of o, *shape of i).

    Raises:
        ValueError: an unknown mode, or a memory that no strategy keeps within. KeyError: an unknown
            output or input. As `simulate` otherwise.
    """
    if mode not in MODES:
        raise ValueError(f"Unknown mode {mode!r}. There are: {', '.join(MODES)}.")
    if chunk is not None or strategy is not None or memory is not None:
        from ._strategy import jacobian_by

        return jacobian_by(
            model,
            of,
            mode=mode,
            checkpoint=checkpoint,
            chunk=chunk,
            strategy=strategy,
            memory=memory,
            wrt=wrt,
            params=params,
            scenario=scenario,
            shocks=shocks,
            initial=initial,
            periods=periods,
            key=key,
            noise=noise,
        )
    target, inputs = _target(
        model, of, wrt, mode, params, scenario, shocks, initial, periods, key, noise, checkpoint
    )
    if mode == "auto":
        target = target._replace(mode=_choose(target, inputs))
    values = _declared_order(target, _compile.call(_jacobian, target, inputs))
    return Jacobian(model, target.wrt, values, target.mode, target.split(inputs))


def gradient(
    model: Model,
    loss: Callable[[Any], Any],
    *,
    wrt: Wrt = "params",
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
    checkpoint: bool | int = False,
    strategy: Any = None,
    memory: float | None = None,
) -> dict[str, jax.Array]:
    """The gradient of a scalar loss of the path of states: in reverse mode, or by a strategy.

    Args: as `jacobian`; `loss` maps the path (a `State` with leaves (T, *shape)) to a scalar. Of a loss
        of the last period alone, `final(loss)` needs no memory for the path.

    Returns:
        Label -> array of the input's shape (in a batch: (B, *shape)).

    Raises:
        TypeError: a loss that is not one real number.
    """
    if strategy is not None or memory is not None:
        from ._strategy import gradient_by

        return gradient_by(
            model,
            loss,
            checkpoint=checkpoint,
            chunk=None,
            strategy=strategy,
            memory=memory,
            wrt=wrt,
            params=params,
            scenario=scenario,
            shocks=shocks,
            initial=initial,
            periods=periods,
            key=key,
            noise=noise,
        )
    target, inputs = _target(
        model,
        loss,
        wrt,
        "reverse",
        params,
        scenario,
        shocks,
        initial,
        periods,
        key,
        noise,
        checkpoint,
    )
    found = _compile.call(_gradient, target, inputs)
    return {one.label: found[one.label] for one in target.wrt}


def hessian(
    model: Model,
    loss: Callable[[Any], Any],
    *,
    wrt: Wrt = "params",
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
) -> Jacobian:
    """The matrix of second derivatives of a scalar loss, forward over reverse. Arguments as `gradient`.

    Returns:
        A `Jacobian` of the gradient: for inputs i and j an array of shape (*shape of i, *shape of j).
    """
    target, inputs = _target(
        model, loss, wrt, "forward", params, scenario, shocks, initial, periods, key, noise, False
    )
    values = _declared_order(target, _compile.call(_hessian, target, inputs))
    return Jacobian(model, target.wrt, values, "forward over reverse", target.split(inputs))


def jvp(
    model: Model,
    of: Of,
    tangents: dict[str, Any],
    *,
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
) -> tuple[Any, Any]:
    """How the outputs move when the inputs move along `tangents`: a Jacobian-vector product.

    Args:
        tangents: input label (as in `wrt`) -> direction, of that input's shape; a number fills it.
        of, others: as in `jacobian`.

    Returns:
        (outputs, their derivative along the direction), two pytrees of one structure.
    """
    target, inputs = _target(
        model,
        of,
        tuple(tangents),
        "forward",
        params,
        scenario,
        shocks,
        initial,
        periods,
        key,
        noise,
        False,
    )
    x = target.split(inputs)
    resolved = {resolve_wrt(model, (name,))[0].label: value for name, value in tangents.items()}
    directions = {label: _like(label, resolved[label], x[label]) for label in x}
    outputs, tangents_out = _compile.call(_jvp, target, inputs, directions)
    return _named_order(target, outputs), _named_order(target, tangents_out)


def vjp(
    model: Model,
    of: Of,
    cotangents: Any,
    *,
    wrt: Wrt = "params",
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
    checkpoint: bool | int = False,
) -> tuple[Any, dict[str, jax.Array]]:
    """What the inputs contribute to a weighted sum of the outputs: a vector-Jacobian product.

    Args:
        cotangents: the weights: variable -> array of its shape (T, *shape) where `of` names variables
            (a number fills it); a pytree of the output's structure where `of` is a function.
        of, wrt, others: as in `jacobian`.

    Returns:
        (outputs, label -> derivative of the weighted sum, of that input's shape).
    """
    target, inputs = _target(
        model,
        of,
        wrt,
        "reverse",
        params,
        scenario,
        shocks,
        initial,
        periods,
        key,
        noise,
        checkpoint,
    )
    shapes = jax.eval_shape(functools.partial(_outputs, target), inputs)
    if not callable(target.of):
        given = {model.State.key_of(name): value for name, value in cotangents.items()}
        cotangents = {name: given.get(name, 0.0) for name in target.of}
    weights = jax.tree.map(lambda s, w: _like("cotangent", w, s), shapes, cotangents)
    outputs, pulled = _compile.call(_vjp, target, inputs, weights)
    return _named_order(target, outputs), {one.label: pulled[one.label] for one in target.wrt}


def _target(
    model: Model,
    of: Of,
    wrt: Wrt,
    mode: str,
    params: Any,
    scenario: Any,
    shocks: Any,
    initial: Any,
    periods: int | None,
    key: Any,
    noise: Any,
    checkpoint: bool | int,
) -> tuple[Target, Inputs]:
    inputs, plan = prepare(
        model, params, scenario, shocks, initial, periods, key, checkpoint, noise
    )
    resolved = resolve_wrt(model, wrt)
    by_initial = any(one.group == "initial" for one in resolved)
    if plan.batch is not None and by_initial and inputs.initial is None:
        raise ValueError(f"{model.name}: in a batch, pass initial=... to differentiate by it.")
    by_noise = any(one.group == "noise" for one in resolved)
    if plan.batch is not None and by_noise and inputs.noise is None:
        raise ValueError(f"{model.name}: in a batch, pass noise=... to differentiate by it.")
    inputs = with_initial(plan, with_noise(plan, inputs, resolved), resolved)
    return Target(alone(plan, inputs), resolve_of(model, of), resolved, mode), inputs


def _batched(function: Callable[..., Any], target: Target, inputs: Inputs) -> Any:
    """One run as it is; a batch as one vectorised program, its axis in front of every derivative."""
    if target.plan.batch is None:
        return function(target, inputs)
    leaves, treedef = jax.tree.flatten(inputs)
    single = target._replace(plan=target.plan._replace(batch=None))

    def one(*leaves: Any) -> Any:
        return function(single, treedef.unflatten(leaves))

    return jax.vmap(one, in_axes=target.plan.batch)(*leaves)


def _outputs(target: Target, inputs: Inputs) -> Any:
    return target.outputs(inputs, target.split(inputs))


@functools.partial(jax.jit, static_argnums=0)
def _jacobian(target: Target, inputs: Inputs) -> dict[str, Any]:
    def one(target: Target, inputs: Inputs) -> dict[str, Any]:
        transform = jax.jacfwd if target.mode == "forward" else jax.jacrev
        function = functools.partial(_labelled_outputs, target, inputs)
        return transform(function)(target.split(inputs))

    return _batched(one, target, inputs)


@functools.partial(jax.jit, static_argnums=0)
def _gradient(target: Target, inputs: Inputs) -> dict[str, Any]:
    def one(target: Target, inputs: Inputs) -> dict[str, Any]:
        return jax.grad(functools.partial(_loss, target, inputs))(target.split(inputs))

    return _batched(one, target, inputs)


@functools.partial(jax.jit, static_argnums=0)
def _hessian(target: Target, inputs: Inputs) -> dict[str, Any]:
    def one(target: Target, inputs: Inputs) -> dict[str, Any]:
        slope = jax.grad(functools.partial(_loss, target, inputs))
        return jax.jacfwd(slope)(target.split(inputs))

    return _batched(one, target, inputs)


@functools.partial(jax.jit, static_argnums=0)
def _jvp(target: Target, inputs: Inputs, directions: dict[str, Any]) -> Any:
    function = functools.partial(target.outputs, inputs)
    return jax.jvp(function, (target.split(inputs),), (directions,))


@functools.partial(jax.jit, static_argnums=0)
def _vjp(target: Target, inputs: Inputs, weights: Any) -> Any:
    outputs, pull = jax.vjp(functools.partial(target.outputs, inputs), target.split(inputs))
    return outputs, pull(weights)[0]


def _loss(target: Target, inputs: Inputs, x: dict[str, Any]) -> jax.Array:
    value = target.outputs(inputs, x)
    shape, dtype = jnp.shape(value), jnp.result_type(value)
    if shape != () or not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"The loss must be one real number, not {dtype}{list(shape)}; see jacobian."
        )
    return value


def _labelled_outputs(target: Target, inputs: Inputs, x: dict[str, Any]) -> dict[str, Any]:
    return _labelled(target, target.outputs(inputs, x))


def _labelled(target: Target, value: Any) -> dict[str, Any]:
    if not callable(target.of):
        return value
    leaves = jax.tree_util.tree_flatten_with_path(value)[0]
    if not leaves:
        raise TypeError("The function of the path returned no array.")
    return {_label(path): leaf for path, leaf in leaves}


def _named_order(target: Target, outputs: Any) -> Any:
    return outputs if callable(target.of) else {name: outputs[name] for name in target.of}


def _declared_order(target: Target, values: dict[str, Any]) -> dict[str, Any]:
    """JAX sorts the keys of a dict; people expect the order in which they named things."""
    labels = [one.label for one in target.wrt]
    names = labels if set(values) == set(labels) else () if callable(target.of) else target.of
    return {
        name: {label: values[name][label] for label in labels} for name in (names or list(values))
    }


def _label(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".") or "output"


def _choose(target: Target, inputs: Inputs) -> str:
    """Forward where there are at least as many outputs as inputs; traced once per shape."""
    key = (target, jax.tree.structure(inputs), tuple(x.shape for x in jax.tree.leaves(inputs)))
    if key not in _chosen:
        forward: list[bool] = []

        def one(target: Target, inputs: Inputs) -> Any:
            x = target.split(inputs)
            result = target.outputs(inputs, x)
            sizes = [sum(math.prod(v.shape) for v in jax.tree.leaves(tree)) for tree in (result, x)]
            forward.append(sizes[0] >= sizes[1])
            return result

        jax.eval_shape(functools.partial(_batched, one, target), inputs)
        _chosen[key] = "forward" if forward[0] else "reverse"
    return _chosen[key]


_chosen: dict[Any, str] = {}


def _like(label: str, value: Any, like: Any) -> Any:
    if np.shape(value) not in ((), like.shape):
        raise ValueError(f"{label!r} needs the shape {like.shape}, not {np.shape(value)}.")
    # NumPy for what is concrete: an eager operation of JAX would be a program of its own to compile.
    module: Any = jnp if isinstance(value, jax.Array) else np
    return module.broadcast_to(module.asarray(value, like.dtype), like.shape)
