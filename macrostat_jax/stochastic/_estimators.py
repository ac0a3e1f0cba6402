r"""Estimators of the gradient of an expected loss, one run of the model at a time.

The expectation E[L(path)] of a random model is a smooth function of its parameters even where no single
path is. What a run contributes to its gradient differs between the estimators:

- `pathwise`: the derivative of the loss with the random inputs held fixed.
- `straight_through`, `gumbel_softmax`: the same, with another derivative in the place of a discrete
  choice's, which is zero (`StraightThrough`, `GumbelSoftmax`).
- `score_function`: (L - b) times the derivative of the log-probability of the path, with a baseline b,
  the mean loss of the other runs (Williams 1992).
- `smoothed_perturbation`: (L(x + s e) - L(x - s e)) / (2 s) times e, for a standard normal e drawn anew
  in every run, under common random numbers (Nesterov and Spokoiny 2017).
- `finite_differences`: (L(x + h) - L(x - h)) / (2 h), element by element, under common random numbers.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .._inputs import Inputs, float_dtype
from .._model import Model
from .._trajectory import canonical_state, parameter_paths, trajectory
from ..diff._target import Target
from ._relaxations import GumbelSoftmax, StraightThrough


@dataclasses.dataclass(frozen=True)
class Estimator:
    """What is known of an estimator.

    Attributes:
        options: the names and defaults of its options.
        bias: of what size, and where from. variance: likewise.
    """

    options: dict[str, Any]
    bias: str
    variance: str


ESTIMATORS = {
    "pathwise": Estimator(
        {},
        "none where the loss of a run is continuous in the parameters; what runs through discrete "
        "choices is left out",
        "that of the run's own slope; none of it comes from the method",
    ),
    "straight_through": Estimator(
        {},
        "none where the loss is linear in every choice, given the others; else of the order of its "
        "curvature, and the number of runs does not reduce it",
        "small: no noise but that of the path",
    ),
    "gumbel_softmax": Estimator(
        {"temperature": 0.5, "hard": True},
        "falls with the temperature, as its square where the loss is linear in the choices; with "
        "hard=True a nonlinear loss keeps the bias of straight-through choices",
        "grows as 1 / temperature",
    ),
    "score_function": Estimator(
        {"baseline": True},
        "none",
        "grows with the number of random events; the baseline takes out what the mean loss adds",
    ),
    "smoothed_perturbation": Estimator(
        {"sigma": 0.05},
        "of order sigma^2: it is the gradient of the expected loss averaged over normal parameters",
        "grows as 1 / sigma where choices jump, and with the number of parameters",
    ),
    "finite_differences": Estimator(
        {"step": 0.05},
        "of order step^2",
        "grows as 1 / step where choices jump; 2 runs for every parameter",
    ),
}
"""Name -> options, bias and variance. A `sigma` or `step` is a share of each parameter's size, and an
absolute number where the parameter is zero."""


class Task(NamedTuple):
    """What a compiled batch of estimates is specialised to."""

    target: Target
    estimator: str
    forward: bool = False
    cumulative: bool = False
    """The loss is a path: what it is in a period depends on the events until then alone."""

    def loss(self, inputs: Inputs, x: dict[str, Any]) -> Any:
        return self.array(self.target.outputs(inputs, x))

    def array(self, value: Any) -> Any:
        """The one array that the loss is, as floats."""
        if not callable(self.target.of):
            value = value[self.target.of[0]]
        leaves = jax.tree.leaves(value)
        if len(leaves) != 1 or jnp.iscomplexobj(leaves[0]):
            raise TypeError(
                "The loss must be one real number, or one array of them; it is "
                f"{jax.tree.map(jnp.shape, value)}."
            )
        value = jnp.asarray(leaves[0])
        whole = not jnp.issubdtype(value.dtype, jnp.floating)
        return value.astype(float) if whole else value


def ingredients(model: Model, estimator: str) -> Model:
    """The model as the estimator runs it.

    Raises:
        TypeError: what the estimator needs and the model does not have.
    """
    if not (model.random or model.random_start):
        raise TypeError(f"{model.name} is not random: its gradient is that of diff.gradient.")
    if estimator == "score_function" and model.log_density is None:
        raise TypeError(
            f"{model.name}: the estimator score_function needs the density of a transition: declare "
            "Model(..., log_density=f) with f(prior, state, params, scenario) -> scalar."
        )
    if estimator == "score_function" and not getattr(model.options.get("relaxation"), "hard", True):
        raise TypeError(
            f"{model.name}: the estimator score_function needs choices of 0 and 1, of which log_density "
            f"is the density; with {model.options['relaxation']} they are weights between them."
        )
    if estimator in ("straight_through", "gumbel_softmax") and "relaxation" not in model.options:
        raise TypeError(
            f"{model.name}: the estimator {estimator} needs the option relaxation: a step that makes its "
            "choices by it, step(prior, params, scenario, noise, *, relaxation=stochastic.EXACT)."
        )
    return model


def relaxed(model: Model, estimator: str, options: dict[str, Any]) -> Model:
    if estimator == "straight_through":
        return model.configure(relaxation=StraightThrough())
    if estimator == "gumbel_softmax":
        return model.configure(relaxation=GumbelSoftmax(**options))
    return model


@functools.partial(jax.jit, static_argnums=0)
def batch(task: Task, inputs: Inputs, keys: Any, scales: Any) -> Any:
    """The contributions of one run for each key (B,): arrays with B in front."""
    one = _RUNS[task.estimator]
    return jax.vmap(lambda key: one(task, inputs._replace(key=key), scales))(keys)


def _pathwise(task: Task, inputs: Inputs, scales: Any) -> Any:
    def loss(x: Any) -> Any:
        value = task.loss(inputs, x)
        return value, value

    transform = jax.jacfwd if task.forward else jax.jacrev
    slopes, value = transform(loss, has_aux=True)(task.target.split(inputs))
    return value, slopes


def _score_function(task: Task, inputs: Inputs, scales: Any) -> Any:
    """The loss, and the derivative of the path's log-probability: for each period's events until then
    (T, *in), or for all (*in)."""
    target = task.target
    path = jax.lax.stop_gradient(trajectory(target.plan, inputs))

    def log_density(x: Any) -> Any:
        terms = path_log_density(target.plan.model, target.moved(inputs, x), path)
        return jnp.cumsum(terms) if task.cumulative else jnp.sum(terms)

    transform = jax.jacfwd if task.cumulative else jax.grad
    return task.array(target.read(path)), transform(log_density)(target.split(inputs))


def path_log_density(model: Model, inputs: Inputs, path: Any) -> Any:
    """The log-density of every transition of a path, (T,)."""
    params = model.constrain(inputs.params)
    first = inputs.initial
    if first is None:
        first = model.initial_state(params, inputs.scenario[0])
    first = canonical_state(model, first, float_dtype(inputs))
    prior = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[:-1]]), first, path)
    fixed, moving = parameter_paths(model, params, inputs.shocks)

    def one(prior: Any, state: Any, moving: Any, row: Any) -> Any:
        return model.log_density(prior, state, model.Params(**fixed, **moving), row)  # pyright: ignore[reportOptionalCall]

    return jax.vmap(one)(prior, path, moving, inputs.scenario)


def _smoothed_perturbation(task: Task, inputs: Inputs, scales: Any) -> Any:
    x, unravel = ravel_pytree(task.target.split(inputs))
    sizes = ravel_pytree(scales)[0]
    # No period folds this number in: the direction and the run's noise are independent.
    apart = jax.random.fold_in(jax.random.fold_in(inputs.key, 2**32 - 1), 1)
    direction = jax.random.normal(apart, x.shape, x.dtype)
    high, low = (task.loss(inputs, unravel(x + sign * sizes * direction)) for sign in (1, -1))
    rise = (high - low)[..., None]
    slope = rise * (direction / (2 * sizes)).reshape(*[1] * (rise.ndim - 1), -1)
    reached = jnp.stack([x - sizes * direction, x + sizes * direction])
    return (high + low) / 2, _columns(unravel, slope), jax.vmap(unravel)(reached)


def _finite_differences(task: Task, inputs: Inputs, scales: Any) -> Any:
    x, unravel = ravel_pytree(task.target.split(inputs))
    sizes = ravel_pytree(scales)[0]
    moves = jnp.diag(sizes)
    points = jnp.concatenate([x[None] + moves, x[None] - moves])
    values = jax.vmap(lambda point: task.loss(inputs, unravel(point)))(points)
    high, low = jnp.split(values, 2)
    width = (points[: x.size] - points[x.size :]).diagonal()
    rises = jnp.moveaxis(high - low, 0, -1)
    slope = rises / width.reshape(*[1] * (rises.ndim - 1), -1)
    return jnp.mean(values, axis=0), _columns(unravel, slope)


def _columns(unravel: Callable[..., Any], slopes: Any) -> Any:
    """(*out, n) as label -> (*out, *in)."""
    function = unravel
    for _ in range(slopes.ndim - 1):
        function = jax.vmap(function)
    return function(slopes)


_RUNS = {
    "pathwise": _pathwise,
    "straight_through": _pathwise,
    "gumbel_softmax": _pathwise,
    "score_function": _score_function,
    "smoothed_perturbation": _smoothed_perturbation,
    "finite_differences": _finite_differences,
}
