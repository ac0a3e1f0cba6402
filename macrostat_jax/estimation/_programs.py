"""What a problem computes, as traced code and as programs: the problem is static, its inputs are not."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._inputs import Inputs, Plan, float_dtype
from .._model import Model
from .._trajectory import canonical_state, trajectory
from ._free import Place

if TYPE_CHECKING:
    from ._problem import Problem

LOG_2PI = math.log(2 * math.pi)


def _moved(problem: Problem, u: Any, inputs: Inputs) -> tuple[Inputs, Any, Any]:
    """The inputs at u, the free values, and log |det d values / d u|; traced."""
    dtype = jnp.asarray(jax.tree.leaves(inputs.params)[0]).dtype
    found = problem.bijection.constrain(jnp.asarray(u, dtype), problem._totals(inputs))
    return placed(problem, inputs, found.values, found.rests), found.values, found.log_det


def placed(problem: Problem, inputs: Inputs, values: Any, rests: Any = None) -> Inputs:
    """The inputs with the free numbers at `values` (k,), in their own units; traced.

    `rests` are the derived numbers; default: what the values leave.
    """
    if rests is None:
        position = {one: i for i, one in enumerate(problem._places)}
        totals = problem._totals(inputs)
        rests = [
            total - sum(values[position[one]] for one in tie.members if one in position)
            for total, tie in zip(totals, problem._ties, strict=True)
        ]
    moved = {one: values[i] for i, one in enumerate(problem._places)}
    moved |= {tie.rest: rests[i] for i, tie in enumerate(problem._ties)}
    params = _replaced(inputs.params, {p: v for p, v in moved.items() if p.group == "params"})
    inputs = inputs._replace(params=params)
    first = {p: v for p, v in moved.items() if p.group == "initial"}
    initial = inputs.initial
    if problem._given or (first and initial is None):
        # What is not given is as the model has it at these parameters.
        known = {key: getattr(initial, key) for key in problem._given}
        initial = _first_state(problem.model, inputs).replace(**known)
    if initial is not None:
        inputs = inputs._replace(initial=_replaced(initial, first))
    return inputs


def _replaced(record: Any, moved: Mapping[Place, Any]) -> Any:
    changes: dict[str, Any] = {}
    for one, value in moved.items():
        if not one.element:
            changes[one.key] = value
            continue
        array = jnp.asarray(changes.get(one.key, getattr(record, one.key)))
        changes[one.key] = array.at[one.element].set(value)
    return record.replace(**changes) if changes else record


def _first_state(model: Model, inputs: Inputs) -> Any:
    """The state before the first period, as the model has it."""
    if model.random_start:
        raise TypeError(f"{model.name} draws its initial state: give it whole, initial=State(...).")
    first = jax.tree.map(lambda leaf: leaf[0], inputs.scenario)
    state = model.initial_state(model.constrain(inputs.params), first)
    return canonical_state(model, state, float_dtype(inputs))


def _at(inputs: Inputs, one: Place) -> Any:
    record = inputs.initial if one.group == "initial" else inputs.params
    value = getattr(record, one.key)
    return value[one.element] if one.element else value


@functools.partial(jax.jit, static_argnums=0)
def _params(problem: Problem, u: Any, inputs: Inputs) -> Any:
    return problem.model.constrain(_moved(problem, u, inputs)[0].params)


@functools.partial(jax.jit, static_argnums=0)
def _values(problem: Problem, u: Any, inputs: Inputs) -> Any:
    return _moved(problem, u, inputs)[1]


@functools.partial(jax.jit, static_argnums=0)
def _path(problem: Problem, u: Any, inputs: Inputs) -> Any:
    return trajectory(problem._plan, _moved(problem, u, inputs)[0])


def errors(problem: Problem, inputs: Inputs) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Model less data of each series, times sqrt(weight), and the residuals of the moments; traced."""
    path = trajectory(_lean(problem), inputs)
    series = tuple(one.errors(path) for one in problem.series)
    moments = []
    for one, root in zip(problem.moments, problem._roots, strict=True):
        found = jnp.atleast_1d(jnp.asarray(one.of(path)))
        if found.shape != (len(root),):
            raise ValueError(f"{one.name!r} gives {found.shape}, its target is ({len(root)},).")
        target = np.atleast_1d(np.asarray(one.target)).astype(found.dtype)
        moments.append(root.astype(found.dtype) @ (found - target))
    return series, tuple(moments)


def _lean(problem: Problem) -> Plan:
    """Without the variables that nobody looks at, where functions of the path do not."""
    if problem.moments or any(one.observed.of is not None for one in problem.series):
        return problem._plan
    read = {place[0] for one in problem.series for place in one.reads if place is not None}
    return problem._plan._replace(recorded=tuple(sorted(read)))


def weighted(problem: Problem, inputs: Inputs, scales: Any) -> Any:
    """The residuals (m,), for a standard deviation of the errors of each series; traced."""
    series, moments = errors(problem, inputs)
    parts = [e / jnp.asarray(scales[i], e.dtype) for i, e in enumerate(series)]
    return jnp.concatenate([*parts, *moments])


@functools.partial(jax.jit, static_argnums=0)
def _residuals(problem: Problem, u: Any, inputs: Inputs, scales: Any) -> Any:
    return weighted(problem, _moved(problem, u, inputs)[0], scales)


@functools.partial(jax.jit, static_argnums=0)
def _cost(problem: Problem, u: Any, inputs: Inputs, scales: Any) -> Any:
    return (_residuals(problem, u, inputs, scales) ** 2).sum() / 2


@functools.partial(jax.jit, static_argnums=0)
def _log_likelihood(problem: Problem, u: Any, inputs: Inputs) -> Any:
    return likelihood(problem, _moved(problem, u, inputs)[0])


def likelihood(problem: Problem, inputs: Inputs) -> Any:
    """The log-likelihood of inputs in their own units; traced."""
    series, moments = errors(problem, inputs)
    total = jnp.zeros((), (*series, *moments)[0].dtype)
    for one, found in zip(problem.series, series, strict=True):
        squares, n = (found**2).sum(), one.size
        if one.sigma is None:
            total = total - n / 2 * (jnp.log(squares / n) + LOG_2PI + 1)
        else:
            total = total - squares / (2 * one.sigma**2) - n * (math.log(one.sigma) + LOG_2PI / 2)
        total = total + n / 2 * math.log(one.observed.weight)
    for found in moments:
        total = total - (found**2).sum() / 2
    return jnp.where(jnp.isnan(total), -jnp.inf, total)


@functools.partial(jax.jit, static_argnums=0)
def _log_prior(problem: Problem, u: Any, inputs: Inputs) -> Any:
    _, values, log_det = _moved(problem, u, inputs)
    return prior_density(problem, values) + log_det


def prior_density(problem: Problem, values: Any) -> Any:
    """The log density of the priors at values (k,), in the parameters' own units; traced."""
    total = jnp.zeros((), values.dtype)
    for i, name in enumerate(problem.names):
        if name in problem.priors:
            total = total + problem.priors[name].logpdf(values[i]) - math.log(problem._mass[name])
    return total


def density(problem: Problem, priors: bool, inputs: Inputs, values: Any) -> Any:
    """The log-likelihood of inputs in their own units, plus that of the priors if they count; traced."""
    found = likelihood(problem, inputs)
    return found + prior_density(problem, values) if priors else found


def deviations(problem: Problem, inputs: Inputs, scales: Any) -> Any:
    """The root mean squared error of each series whose sigma is not known, for the others `scales`; traced."""
    found = [
        scales[i] if one.sigma is not None else jnp.sqrt((e**2).mean())
        for i, (one, e) in enumerate(zip(problem.series, errors(problem, inputs)[0], strict=True))
    ]
    return jnp.stack(found) if found else scales


def reweighted(problem: Problem, priors: bool) -> bool:
    """Does the size of unknown errors of measurement decide which parameters fit best?"""
    others = len(problem.series) > 1 or problem.moments or (priors and problem.priors)
    return bool(others) and any(one.sigma is None for one in problem.series)


@functools.partial(jax.jit, static_argnums=0)
def _log_density(problem: Problem, u: Any, inputs: Inputs) -> Any:
    return _log_prior(problem, u, inputs) + _log_likelihood(problem, u, inputs)
