"""Derivatives of paths from the derivatives of single periods.

A period's state x_t depends on the state before and on what is particular to the period, z_t:
dx_t = A_t dx_{t-1} + B_t dz_t. So the derivative of a path by a path is lower triangular, and follows
from the A_t and B_t, which are all found at once, by as few products as their sparsity allows. At a
steady state they do not change over time: x_t then depends on z_s through t - s alone, and one column
(the response to an impulse) is the whole derivative.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from .._inputs import Inputs, Plan, prepare
from .._model import Model
from .._steady import TOLERANCE, steady_state
from ._labelled import Jacobian, distinct
from ._operators import _named, _single
from ._period import Row, before, followed, period, rows, run_dtype
from ._recursion import Rows, differentiable, read_inputs, recursion_of, toeplitz
from ._spaces import Block, Space
from ._sparsity import Sparsity, given_sparsity, sparsity_of
from ._target import PATHS, Input, Of, Wrt, field_of, resolve_of, resolve_wrt

if TYPE_CHECKING:
    import xarray as xr


def sequence_space_jacobian(
    model: Model,
    of: Of = None,
    *,
    wrt: Wrt = "scenario",
    at: str = "path",
    sparsity: Any = None,
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
) -> Jacobian:
    """How every variable in every period moves with a shock to every exogenous series in every period.

    The same numbers as `jacobian`, sooner: along a path by the recursion over periods, at a steady
    state from the response to one impulse.

    Args:
        of: variables, as in `jacobian`; not a function of the path.
        wrt: exogenous series; along a path also parameters, the initial state and random inputs.
        at: `"path"`: along the run; `"steady state"`: at the one of `scenario`, whose series are then
            constant (by default their defaults), for `periods` periods.
        sparsity: the pattern of nonzeros of the step's derivative, (variables, inputs) as in
            `step_sparsity`, of what the step reads of the state before and then of `wrt`, where
            another tool found it.
        others: as in `jacobian`.

    Returns:
        A `Jacobian` with arrays (T, *shape, T, *shape); `mode` says how many products it took. At a
        steady state the arrays are read-only views of the response to an impulse.

    Raises:
        ValueError: an unknown `at`, a batch, a scenario that moves (at a steady state), or inputs without
            a time axis there. TypeError: a function of the path. As `jacobian` and `steady_state`.
    """
    if callable(of):
        raise TypeError(
            f"{_named(of).strip()} is a function of the path: name variables here, or use jacobian."
        )
    if at not in ("path", "steady state"):
        raise ValueError(f"Unknown at={at!r}. There are: 'path', 'steady state'.")
    if at == "steady state":
        if shocks or initial is not None or key is not None or noise is not None:
            raise ValueError(
                "At a steady state there are no shocks, initial state or random inputs."
            )
        row, horizon = _constant(model, scenario, periods)
        given: dict[str, Any] = dict(wrt=wrt, params=params, scenario=row, sparsity=sparsity)
        if any(one.group != "scenario" for one in resolve_wrt(model, wrt)):
            raise ValueError(
                f"{model.name}: at a steady state only exogenous series have a time axis; see "
                "impulse_responses for parameters."
            )
        return impulse_responses(model, of, periods=horizon, **given).to_jacobian()
    target, inputs = _single(
        model, of, wrt, params, scenario, shocks, initial, periods, key, noise, False
    )
    pattern = _pattern(model, target.wrt, sparsity)
    plan, seeds = (target, pattern.columns, pattern.by), pattern.seeds(run_dtype(inputs))
    products, start = _compile.call(_in_every_period, plan, inputs, seeds)
    values = recursion_of(target, inputs, pattern, np.asarray(products), start)
    mode = (
        f"recursion over {target.plan.periods} periods, {pattern.products} products for "
        f"{pattern.columns.size} inputs in each"
    )
    return Jacobian(model, target.wrt, values, mode, target.split(inputs))


def step_jacobian(
    model: Model,
    wrt: Wrt = ("initial", "params", "scenario"),
    *,
    params: Any = None,
    scenario: Any = None,
    initial: Any = None,
    sparsity: Any = None,
) -> Jacobian:
    """The derivative of one period's state, by as many products as its sparsity has colours.

    Args:
        wrt: as in `step_sparsity`; `initial` is the state before the period.
        params: the parameters; default: the model's.
        scenario: one value per series, a row such as `model.scenario()[0]`; default: the defaults.
        initial: the state before; default: the steady state.
        sparsity: a boolean matrix (variables, inputs) in place of the traced one.

    Returns:
        A `Jacobian` with the numbers and shapes of `jacobian(model, wrt=wrt, periods=1, initial=...)`.

    Raises:
        TypeError: a random model. As `steady_state` otherwise.
    """
    if not isinstance(wrt, str) and not model.Scenario.fields:
        wrt = [name for name in wrt if name != "scenario"]
    resolved = resolve_wrt(model, wrt)
    inputs = _at_rest(model, params, scenario, initial)
    pattern = (
        sparsity_of(model, resolved)
        if sparsity is None
        else given_sparsity(model, resolved, sparsity)
    )
    dense, _ = _one_period(inputs, pattern)
    values, at = {}, 0
    for block in pattern.rows.blocks:
        parts = pattern.columns.unpack(dense[at : at + block.size])
        values[block.label] = {
            one.label: part.reshape(
                (1, *block.shape, *((1,) if one.group in PATHS else ()), *part.shape[1:])
            )
            for one, part in zip(resolved, parts.values(), strict=True)
        }
        at += block.size
    mode = f"{pattern.products} products by {pattern.by} for {pattern.columns.size} inputs"
    point = {one.label: getattr(getattr(inputs, one.group), one.key) for one in resolved}
    return Jacobian(model, resolved, values, mode, point)


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class ImpulseResponses:
    """Responses to impulses at a steady state. Made by `impulse_responses`.

    Attributes:
        values: variable -> input -> (S, *shape of the variable, *shape of the input): how the variable
            moves s periods after the input was one unit higher, or the parameter another one, for one
            period; s = 0 is that period.
        state: the steady state.
        products: how many products of the step's derivative it took.
    """

    model: Model
    inputs: tuple[Input, ...]
    values: dict[str, dict[str, np.ndarray]]
    state: Any
    products: int

    def __getitem__(self, item: tuple[str, str]) -> np.ndarray:
        """`K["national_income", "scenario.government_demand"]`."""
        output, name = item
        label = resolve_wrt(self.model, name)[0].label
        return self.values[self.model.State.key_of(output)][label]

    @property
    def periods(self) -> int:
        return len(next(iter(next(iter(self.values.values())).values())))

    def permanent(self) -> dict[str, dict[str, np.ndarray]]:
        """The responses to a change that stays, in the layout of `values`."""
        return {
            output: {label: np.cumsum(value, axis=0) for label, value in columns.items()}
            for output, columns in self.values.items()
        }

    def to_jacobian(self) -> Jacobian:
        """The derivatives of paths by paths: entry (t, s) is the response after t - s periods.

        Parameters, which have no time axis in a `Jacobian`, are shifted for good: (T, *shape).
        """
        lasting = self.permanent()
        values = {
            output: {
                one.label: toeplitz(columns[one.label], len(self._shape(output)))
                if one.group in PATHS
                else lasting[output][one.label]
                for one in self.inputs
            }
            for output, columns in self.values.items()
        }
        mode = f"response to an impulse at the steady state, {self.products} products"
        return Jacobian(self.model, self.inputs, values, mode, {})

    def _shape(self, output: str) -> tuple[int, ...]:
        return self.model.State.fields[output].shape

    def to_xarray(self) -> xr.Dataset:
        """One variable per variable, with the dimensions (lag, axes of the variable, input)."""
        import xarray as xr

        arrays, names = {}, []
        for output, columns in self.values.items():
            lead = (self.periods, *self._shape(output))
            flat = [columns[one.label].reshape((*lead, -1)) for one in self.inputs]
            axes = distinct(axis.name for axis in self.model.State.fields[output].axes)
            arrays[output] = (["lag", *axes, "input"], np.concatenate(flat, axis=-1))
            names = [name for block in self._blocks() for name in block.slots()]
        return xr.Dataset(arrays, {"input": names})

    def _blocks(self) -> list[Block]:
        return [Block(one.label, field_of(self.model, one).axes) for one in self.inputs]

    def __repr__(self) -> str:
        rows, columns = len(self.values), ", ".join(one.label for one in self.inputs)
        return (
            f"Responses of {rows} variables of {self.model.name} over {self.periods} periods to an "
            f"impulse of {columns} ({self.products} products)"
        )


def impulse_responses(
    model: Model,
    of: Of = None,
    *,
    wrt: Wrt = "scenario",
    periods: int | None = None,
    params: Any = None,
    scenario: Any = None,
    initial: Any = None,
    sparsity: Any = None,
) -> ImpulseResponses:
    """How variables respond, at a steady state, to an exogenous series or a parameter being one unit
    higher for one period: the kernel of which the sequence-space Jacobian is made.

    Args:
        of: variables; None is all.
        wrt: exogenous series and parameters.
        periods: how long they are followed; default: `model.periods`.
        params: the parameters. scenario: one value per series, a row.
        initial: the steady state, where it is known; default: found by `steady_state`.
        sparsity: as in `sequence_space_jacobian`.

    Raises:
        ValueError: inputs that are neither; `initial` is not a steady state. RuntimeError: there is none.
    """
    if callable(of):
        raise TypeError("Name the variables; of a function of the path there is no response.")
    resolved = resolve_wrt(model, wrt)
    wrong = [one.label for one in resolved if one.group not in ("params", "scenario")]
    if wrong:
        raise ValueError(f"An impulse is one of a series or a parameter, not of {wrong}.")
    horizon = model.periods if periods is None else periods
    if horizon < 1:
        raise ValueError(f"periods must be at least 1, not {horizon}.")
    inputs = _at_rest(model, params, scenario, initial)
    pattern = _pattern(model, resolved, sparsity)
    dense, after = _one_period(inputs, pattern)
    if initial is not None:
        _check_rest(model, inputs.initial, after)
    chosen = Rows.of(pattern, differentiable(resolve_of(model, of), pattern))
    dense = dense[chosen.order]
    transition, moved = dense[:, : chosen.reads], dense[:, chosen.reads :]
    kernel = np.empty((horizon, *moved.shape), dense.dtype)
    for t in range(horizon):
        kernel[t] = moved
        moved = transition @ moved[chosen.first_read :]
    space = Space(pattern.columns.blocks[len(read_inputs(model)) :], dense.dtype)
    values = {}
    for name, rows_of in chosen.places.items():
        part = kernel[:, rows_of].reshape((horizon, *model.State.fields[name].shape, space.size))
        values[name] = space.unpack(part)
    return ImpulseResponses(model, resolved, values, inputs.initial, pattern.products)


def _check_rest(model: Model, state: Any, after: Any) -> None:
    for key in model.State.fields:
        now, then = np.asarray(getattr(state, key)), np.asarray(getattr(after, key))
        if not np.issubdtype(now.dtype, np.floating):
            continue
        enough = TOLERANCE[now.dtype.itemsize] * np.maximum(1, np.abs(now))
        with np.errstate(invalid="ignore"):  # what nothing limits is infinite, and rests so
            moves = ~((np.abs(then - now) <= enough) | (now == then))
        if moves.any():
            raise ValueError(
                f"{model.name}: initial is not a steady state: a period changes {key!r} by "
                f"{np.max(np.abs(then - now)):.3g}."
            )


# --- the derivatives of single periods -----------------------------------------------------------


def _pattern(model: Model, wrt: tuple[Input, ...], given: Any) -> Sparsity:
    """Of a step by what it reads of the state before, and then by the others of `wrt`."""
    inputs = (*read_inputs(model), *(one for one in wrt if one.group != "initial"))
    return sparsity_of(model, inputs) if given is None else given_sparsity(model, inputs, given)


def _products(
    plan: Plan, space: Space, by: str, seeds: Any, params: Any, row: Row, read: Any
) -> Any:
    """(products, rows or columns): of a period's derivative by `space`, with all seeds."""
    records = {"params": params, "scenario": row.scenario, "noise": row.noise}
    at = [
        read[one.key] if one.group == "initial" else getattr(records[one.group], one.key)
        for one in space.inputs or ()
    ]
    x = jnp.concatenate([jnp.reshape(leaf, (-1,)).astype(seeds.dtype) for leaf in at])
    fixed = {f"initial.{key}": value for key, value in read.items()}

    def state(x: Any) -> Any:
        after = period(plan, params, row, fixed | space.unpack(x), seeds.dtype)
        leaves = [leaf.reshape(-1) for leaf in jax.tree.leaves(after)]
        return jnp.concatenate([x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)])

    if by == "columns":
        return jax.vmap(lambda seed: jax.jvp(state, (x,), (seed,))[1])(seeds)
    _, pull = jax.vjp(state, x)
    return jax.vmap(lambda seed: pull(seed)[0])(seeds)


@functools.partial(jax.jit, static_argnums=0)
def _in_every_period(plan: Any, inputs: Inputs, seeds: Any) -> tuple[Any, dict[str, Any]]:
    """The products in all periods (T, products, ...), and how what the first period reads moves with the
    inputs: label -> (elements read, elements of the input, of a path's in the first row)."""
    target, space, by = plan
    _, read = followed(target.plan, inputs)
    products = jax.vmap(
        lambda read, row: _products(target.plan, space, by, seeds, inputs.params, row, read)
    )(read, rows(target.plan, inputs))
    x = target.split(inputs)
    paths = [one.label for one in target.wrt if one.group in PATHS]

    def first(early: dict[str, Any]) -> Any:
        whole = {k: jnp.concatenate([early[k], x[k][1:]]) if k in paths else early[k] for k in x}
        found = before(target.plan, target.moved(inputs, whole))
        parts = [found[one.key].reshape(-1) for one in read_inputs(target.plan.model)]
        return jnp.concatenate([jnp.zeros(0, seeds.dtype), *parts])

    early = {label: value[:1] if label in paths else value for label, value in x.items()}
    slopes = jax.jacfwd(first)(early)
    return products, {k: jnp.reshape(v, (v.shape[0], early[k].size)) for k, v in slopes.items()}


@functools.partial(jax.jit, static_argnums=0)
def _in_one_period(plan: Any, inputs: Inputs, seeds: Any) -> tuple[Any, Any]:
    """The products at the state `inputs.initial` and the row `inputs.scenario`; the state after."""
    plan, space, by = plan
    row = Row(inputs.scenario, {}, None, None)
    read = {key: getattr(inputs.initial, key) for key in plan.model.State.fields}
    leaves = {f"initial.{key}": value for key, value in read.items()}
    after = period(plan, inputs.params, row, leaves, seeds.dtype)
    return _products(plan, space, by, seeds, inputs.params, row, read), after


def _one_period(inputs: Inputs, pattern: Sparsity) -> tuple[np.ndarray, Any]:
    """The derivative (rows, columns), and the state after."""
    plan = Plan(pattern.model, 1), pattern.columns, pattern.by
    seeds = pattern.seeds(run_dtype(inputs))
    products, after = _compile.call(_in_one_period, plan, inputs, seeds)
    return pattern.expand(np.asarray(products)), after


def _at_rest(model: Model, params: Any, scenario: Any, initial: Any) -> Inputs:
    """Parameters, one row and the state before: the steady state where none is given."""
    if model.random or model.random_start:
        raise TypeError(f"{model.name} is random: its state never rests, and a period is not all.")
    if initial is None:
        initial = steady_state(model, params, scenario)
    if scenario is not None and model.Scenario.fields:
        scenario = jax.tree.map(lambda leaf: np.asarray(leaf)[None], scenario)
    inputs, _ = prepare(model, params, scenario, {}, initial, 1)
    return inputs._replace(scenario=jax.tree.map(lambda leaf: leaf[0], inputs.scenario))


def _constant(model: Model, scenario: Any, periods: int | None) -> tuple[Any, int]:
    """The one row of a scenario that does not move, and the horizon."""
    if scenario is None:
        return None, periods or model.periods
    if isinstance(scenario, str):
        scenario = model.scenario(scenario, periods=periods)
    row, horizon = {}, periods
    for key, field in model.Scenario.fields.items():
        value = np.asarray(getattr(scenario, key))
        if value.ndim > len(field.shape):
            if np.any(value != value[:1]):
                raise ValueError(
                    f"{model.name}: the series {key!r} moves: at a steady state it is constant. Take "
                    "one period, for instance scenario[-1], or at='path'."
                )
            horizon, value = horizon or len(value), value[0]
        row[key] = value
    return model.Scenario(**row), horizon or model.periods
