"""Derivatives as linear operators: products with them, and compositions of them, without a matrix."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from .._inputs import Inputs
from .._model import Model
from ._derivatives import _labelled, _loss, _target
from ._operator import Operator
from ._spaces import Space, input_space, output_space
from ._target import Of, Target, Wrt


def linear_operator(
    model: Model,
    of: Of = None,
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
) -> Operator:
    """The derivative of a model's outputs with respect to its inputs as an operator, without its matrix.

    A product costs about two simulations (`mv`) or four (`rmv`), and their memory, whatever the size
    of the matrix. Outputs that are no real numbers (counts, flags) are left out.

    Args:
        of, wrt, others: as in `jacobian`.

    Returns:
        An `Operator` from the labels of the inputs to those of the outputs.

    Raises:
        ValueError: a batch of runs. Otherwise as `jacobian`.
    """
    target, inputs = _single(
        model, of, wrt, params, scenario, shocks, initial, periods, key, noise, checkpoint
    )
    x, at = _point(target, inputs)
    return Operator(
        f"d{_named(of)} of {model.name}",
        input_space(model, target.wrt, at),
        output_space(model, _shapes(target, inputs)),
        lambda v: _compile.call(_columns, target, inputs, _array(v)),
        lambda w: _compile.call(_rows, target, inputs, _array(w)),
        lambda: _lineax_jacobian(functools.partial(_flat_outputs, target), x, inputs),
        at,
    )


def hessian_operator(
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
) -> Operator:
    """The second derivative of a scalar loss as an operator: forward mode over reverse mode.

    `mv(v)` is how the gradient moves along v, at the cost of some two gradients. Arguments as
    `gradient`.
    """
    target, inputs = _single(
        model, loss, wrt, params, scenario, shocks, initial, periods, key, noise, checkpoint
    )
    x, at = _point(target, inputs)
    one_number(_shapes(target, inputs))
    space = input_space(model, target.wrt, at)

    def products(v: Any) -> Any:
        return _compile.call(_hessian_columns, target, inputs, _array(v))

    return Operator(
        f"d2{_named(loss)} of {model.name}",
        space,
        space,
        products,
        products,
        lambda: _lineax_jacobian(functools.partial(_flat_gradient, target), x, inputs),
        at,
        symmetric=True,
    )


def gauss_newton_operator(
    model: Model,
    of: Of = None,
    *,
    loss: Callable[[Any], Any] | None = None,
    wrt: Wrt = "params",
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
    checkpoint: bool | int = False,
) -> Operator:
    """J' H J: the Hessian of loss(outputs) without the curvature of the model, as an operator.

    J is the derivative of the outputs `of`, H the Hessian of `loss` by them. It is positive
    semidefinite where the loss is convex, which the Hessian itself need not be.

    Args:
        of: the residuals, or other outputs, as in `jacobian`.
        loss: from the outputs, label -> array, to a number. Default: half the sum of squares, for which
            H is the identity.
        others: as in `jacobian`.
    """
    target, inputs = _single(
        model, of, wrt, params, scenario, shocks, initial, periods, key, noise, checkpoint
    )
    x, at = _point(target, inputs)
    shapes = _shapes(target, inputs)
    outputs = output_space(model, shapes)
    space = input_space(model, target.wrt, at)
    if loss is not None:
        value = jax.eval_shape(loss, shapes)
        if getattr(value, "shape", None) != ():
            raise TypeError("The loss must be one real number of the outputs.")
    plan = target, loss, outputs

    def products(v: Any) -> Any:
        return _compile.call(_gauss_newton_columns, plan, inputs, _array(v))

    def lineax_form() -> Any:
        jacobian = _lineax_jacobian(functools.partial(_flat_outputs, target), x, inputs)
        if loss is None:
            return jacobian.T @ jacobian
        y = jax.jit(_flat_outputs, static_argnums=0)(target, x, inputs)
        slope = _slope(loss, outputs)
        curvature = _lineax_jacobian(lambda y, _: slope(y), y, None)
        return jacobian.T @ curvature @ jacobian

    return Operator(
        f"Gauss-Newton of {_named(of) or 'all variables'} of {model.name}",
        space,
        space,
        products,
        products,
        lineax_form,
        at,
        symmetric=True,
        positive=loss is None,
    )


def one_number(shapes: Mapping[str, Any]) -> None:
    """Raises a TypeError unless the outputs are a loss."""
    if [leaf.shape for leaf in shapes.values()] != [()]:
        found = ", ".join(f"{k}{list(v.shape)}" for k, v in shapes.items())
        raise TypeError(f"The loss must be one real number, not {found}; see jacobian.")


def _single(model: Model, of: Of, wrt: Wrt, *given: Any) -> tuple[Target, Inputs]:
    target, inputs = _target(model, of, wrt, "forward", *given)
    if target.plan.batch is not None:
        raise ValueError("An operator is of one run, not of a batch.")
    return target, inputs


def _point(target: Target, inputs: Inputs) -> tuple[Any, dict[str, Any]]:
    """Where it is differentiated: as a flat vector, and by label."""
    at = target.split(inputs)
    return _flat(at, target), at


def _array(v: Any) -> Any:
    return v if isinstance(v, jax.Array) else np.asarray(v)


def _named(of: Of) -> str:
    if of is None:
        return ""
    if callable(of):
        return f" {getattr(of, '__name__', type(of).__name__)}"
    return f" {of if isinstance(of, str) else ', '.join(of)}"


def _flat(x: Mapping[str, Any], target: Target) -> Any:
    parts = [x[one.label].reshape(-1) for one in target.wrt]
    traced = any(isinstance(part, jax.Array) for part in parts)
    return jnp.concatenate(parts) if traced else np.concatenate(parts)


def _unflat(flat: Any, target: Target, inputs: Inputs) -> dict[str, Any]:
    found, at = {}, 0
    for label, leaf in target.split(inputs).items():
        size = math.prod(leaf.shape)
        found[label] = flat[at : at + size].reshape(leaf.shape)
        at += size
    return found


def _real_outputs(target: Target, inputs: Inputs, x: dict[str, Any]) -> dict[str, Any]:
    return _real(target, target.outputs(inputs, x))


def _real(target: Target, value: Any) -> dict[str, Any]:
    """The outputs that can be differentiated, by label."""
    found = _labelled(target, value)
    names = list(found) if callable(target.of) else target.of
    real = {k: found[k] for k in names if jnp.issubdtype(found[k].dtype, jnp.floating)}
    if not real:
        raise TypeError("None of the outputs is a real number: there is nothing to differentiate.")
    return real


def _shapes(target: Target, inputs: Inputs) -> dict[str, Any]:
    """Label -> shape and dtype of the outputs, in the order of `_flat_outputs`: JAX would sort a dict.

    Tracing a run takes longer than many a product: it is done once for each kind of inputs.
    """
    leaves, treedef = jax.tree.flatten(inputs)
    key = target, treedef, tuple((np.shape(leaf), leaf.dtype) for leaf in leaves)
    if key not in _traced:
        names: list[str] = []

        def real(inputs: Inputs) -> list[Any]:
            found = _real_outputs(target, inputs, target.split(inputs))
            names[:] = list(found)
            return list(found.values())

        shapes = jax.eval_shape(real, inputs)
        _traced[key] = dict(zip(names, shapes, strict=True))
    return _traced[key]


_traced: dict[Any, dict[str, Any]] = {}


def _flat_outputs(target: Target, x: Any, inputs: Inputs) -> Any:
    found = _real_outputs(target, inputs, _unflat(x, target, inputs))
    return jnp.concatenate([leaf.reshape(-1) for leaf in found.values()])


def _flat_gradient(target: Target, x: Any, inputs: Inputs) -> Any:
    return jax.grad(lambda x: _loss(target, inputs, _unflat(x, target, inputs)))(x)


def _along(function: Callable[[Any], Any], x: Any, directions: Any) -> Any:
    """Forward products of K directions; one direction needs no batch."""

    def product(v: Any) -> Any:
        return jax.jvp(function, (x,), (v,))[1]

    if directions.shape[0] == 1:
        return product(directions[0])[None]
    return jax.vmap(product)(directions)


@functools.partial(jax.jit, static_argnums=0)
def _columns(target: Target, inputs: Inputs, directions: Any) -> Any:
    x = _flat(target.split(inputs), target)
    return _along(lambda x: _flat_outputs(target, x, inputs), x, directions)


@functools.partial(jax.jit, static_argnums=0)
def _rows(target: Target, inputs: Inputs, weights: Any) -> Any:
    x = _flat(target.split(inputs), target)
    _, pull = jax.vjp(lambda x: _flat_outputs(target, x, inputs), x)
    if weights.shape[0] == 1:
        return pull(weights[0])[0][None]
    return jax.vmap(lambda w: pull(w)[0])(weights)


@functools.partial(jax.jit, static_argnums=0)
def _hessian_columns(target: Target, inputs: Inputs, directions: Any) -> Any:
    x = _flat(target.split(inputs), target)
    return _along(lambda x: _flat_gradient(target, x, inputs), x, directions)


@functools.partial(jax.jit, static_argnums=0)
def _gauss_newton_columns(plan: Any, inputs: Inputs, directions: Any) -> Any:
    target, loss, outputs = plan
    x = _flat(target.split(inputs), target)

    def function(x: Any) -> Any:
        return _flat_outputs(target, x, inputs)

    y, pull = jax.vjp(function, x)

    def product(v: Any) -> Any:
        moved = jax.jvp(function, (x,), (v,))[1]
        if loss is not None:
            moved = jax.jvp(_slope(loss, outputs), (y,), (moved,))[1]
        return pull(moved)[0]

    if directions.shape[0] == 1:
        return product(directions[0])[None]
    return jax.vmap(product)(directions)


def _slope(loss: Callable[[Any], Any], outputs: Space) -> Callable[[Any], Any]:
    """The gradient of a loss of labelled outputs, from and to flat vectors."""
    return jax.grad(lambda y: loss(outputs.unpack(y)))


def _lineax_jacobian(function: Callable[[Any, Any], Any], x: Any, args: Any) -> Any:
    import lineax

    return lineax.JacobianLinearOperator(function, jnp.asarray(x), args)
