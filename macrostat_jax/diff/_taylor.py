"""Taylor series of a run along a direction of its inputs: derivatives of any order."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from .._inputs import Inputs
from .._model import Model
from ._labelled import distinct
from ._operators import _real, _real_outputs, _single
from ._period import before, period, rows, run_dtype
from ._spaces import input_space, output_space
from ._target import PATHS, Of, Target

if TYPE_CHECKING:
    import xarray as xr


@dataclasses.dataclass(frozen=True, repr=False)
class Taylor:
    """The series of outputs along a direction of the inputs. Made by `taylor`.

    Attributes:
        model: the model.
        coefficients: output label -> (order + 1, *shape): c[k] of y(x + e v) = sum of c[k] e^k.
        method: how they were computed.
    """

    model: Model
    coefficients: dict[str, Any]
    method: str

    @property
    def order(self) -> int:
        return len(next(iter(self.coefficients.values()))) - 1

    def derivative(self, order: int) -> dict[str, Any]:
        """The derivative of this order along the direction: output label -> array of its shape."""
        if not 0 <= order <= self.order:
            raise ValueError(f"The series ends with order {self.order}; asked for was {order}.")
        return {k: math.factorial(order) * c[order] for k, c in self.coefficients.items()}

    def __call__(self, distance: float) -> dict[str, Any]:
        """The outputs that the series gives at x + distance * v."""
        return {
            name: functools.reduce(lambda sum, c: sum * distance + c, coefficients[::-1])
            for name, coefficients in self.coefficients.items()
        }

    def to_xarray(self) -> xr.Dataset:
        """One variable per output, with the dimensions (order, time, axes of the variable)."""
        import xarray as xr

        shapes = {
            k: jax.ShapeDtypeStruct(c.shape[1:], c.dtype) for k, c in self.coefficients.items()
        }
        space = output_space(self.model, shapes)
        return xr.Dataset(
            {
                block.label: (
                    ["order", *distinct(axis.name for axis in block.axes)],
                    np.asarray(self.coefficients[block.label]),
                )
                for block in space.blocks
            }
        )

    def __repr__(self) -> str:
        names = ", ".join(self.coefficients)
        return f"Taylor series of {self.model.name} to order {self.order} ({self.method}): {names}"


def taylor(
    model: Model,
    of: Of,
    direction: dict[str, Any],
    *,
    order: int = 2,
    method: str = "auto",
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
) -> Taylor:
    """The Taylor series of a model's outputs along a direction of its inputs.

    Args:
        of: the outputs, as in `jacobian`.
        direction: input label -> direction, of that input's shape; a number fills it.
        order: the highest power, at least 1.
        method: `"series"` carries truncated series from period to period
            (`jax.experimental.jet` in each: work grows as the square of the order); `"nested"`
            takes tangents of tangents (work doubles with each order); `"auto"` is series where jet
            has a rule for every operation of the model, nested otherwise (it has none, for instance,
            for linear systems and for solvers).
        others: as in `jacobian`.

    Returns:
        A `Taylor`, whose `method` says which it was.

    Raises:
        ValueError: an order below 1, an unknown method. NotImplementedError: `method="series"` where
            jet lacks a rule; with the operation's name.
    """
    if order < 1:
        raise ValueError(f"The order is at least 1, not {order}.")
    if method not in ("auto", "series", "nested"):
        raise ValueError(f"Unknown method {method!r}. There are: auto, series, nested.")
    given = (params, scenario, shocks, initial, periods, key, noise, False)
    target, inputs = _single(model, of, tuple(direction), *given)
    space = input_space(model, target.wrt, target.split(inputs))
    along = space.unpack(np.asarray(space.pack(direction)))
    plan = target, order
    if method != "nested":
        missing = _missing_rule(plan, inputs, along)
        if missing and method == "series":
            raise NotImplementedError(
                f"{model.name}: jax.experimental.jet has no rule for {missing}; use method='nested'."
            )
        method = "nested" if missing else "series"
    function = _series if method == "series" else _nested
    found = _compile.call(function, plan, inputs, along)
    names = list(found) if callable(target.of) else [name for name in target.of if name in found]
    how = {"series": "series through each period", "nested": "tangents of tangents"}
    return Taylor(model, {name: found[name] for name in names}, how[method])


def _missing_rule(plan: tuple[Target, int], inputs: Inputs, along: dict[str, Any]) -> str:
    """The operation that jet has no rule for; empty if there is none."""
    try:
        jax.eval_shape(functools.partial(_series, (plan[0], 1)), inputs, along)
    except (KeyError, NotImplementedError) as error:
        return str(error)
    return ""


@functools.partial(jax.jit, static_argnums=0)
def _nested(plan: tuple[Target, int], inputs: Inputs, along: dict[str, Any]) -> dict[str, Any]:
    target, order = plan
    x = target.split(inputs)

    def moved(distance: Any) -> tuple[Any, ...]:
        at = {label: x[label] + distance * along[label] for label in x}
        return (_real_outputs(target, inputs, at),)

    def differentiated(function: Any) -> Any:
        def more(distance: Any) -> tuple[Any, ...]:
            values, slopes = jax.jvp(function, (distance,), (jnp.ones_like(distance),))
            return (*values, slopes[-1])

        return more

    for _ in range(order):
        moved = differentiated(moved)
    derivatives = moved(jnp.zeros((), run_dtype(inputs)))
    return _stacked(derivatives[0], list(derivatives[1:]))


@functools.partial(jax.jit, static_argnums=0)
def _series(plan: tuple[Target, int], inputs: Inputs, along: dict[str, Any]) -> dict[str, Any]:
    """The derivatives of each period's state from those of what it reads, period by period."""
    target, order = plan
    dtype = run_dtype(inputs)
    fields = target.plan.model.State.fields

    def seeded(leaves: dict[str, Any]) -> dict[str, list[Any]]:
        """Along the direction to first order, and nothing beyond."""
        return {label: [leaves[label], *_zeros(leaves[label], order - 1)] for label in leaves}

    x = target.split(inputs)
    first, first_terms = _jet(
        lambda x: before(target.plan, target.moved(inputs, x)), x, seeded(along), order
    )
    constant = {one.label: along[one.label] for one in target.wrt if one.group == "params"}
    at_rows = {one.label: one for one in target.wrt if one.group in PATHS}
    row = rows(target.plan, inputs)
    skipped = {  # the draws of the initial state come before those of the periods
        label: int(one.group == "noise" and target.plan.model.random_start)
        for label, one in at_rows.items()
    }

    def body(carry: Any, xs: Any) -> Any:
        read, read_terms = carry
        row, directions = xs
        leaves = {f"initial.{key}": value for key, value in read.items()}
        terms = {f"initial.{key}": value for key, value in read_terms.items()}
        leaves |= {label: x[label] for label in constant}
        leaves |= {label: getattr(getattr(row, o.group), o.key) for label, o in at_rows.items()}
        terms |= seeded(constant) | seeded(directions)

        def one(leaves: dict[str, Any]) -> dict[str, Any]:
            state = period(target.plan, inputs.params, row, leaves, dtype)
            return {key: getattr(state, key) for key in fields}

        state, state_terms = _jet(one, leaves, terms, order)
        carried = {key: state[key] for key in read}, {key: state_terms[key] for key in read}
        return carried, (state, state_terms)

    xs = row, {label: along[label][skipped[label] :] for label in at_rows}
    _, (path, path_terms) = jax.lax.scan(body, (first, first_terms), xs, target.plan.periods)

    def outputs(path: dict[str, Any]) -> dict[str, Any]:
        return _real(target, target.read(target.plan.model.State(**path)))

    found, terms = _jet(outputs, path, path_terms, order)
    return _stacked(found, [{k: terms[k][i] for k in found} for i in range(order)])


def _jet(
    function: Any, leaves: dict[str, Any], terms: dict[str, list[Any]], order: int
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """`jet` of a function between dicts of arrays; what is no real number has no terms."""
    from jax.experimental import jet

    real = [k for k in leaves if jnp.issubdtype(leaves[k].dtype, jnp.floating)]
    fixed = {k: leaf for k, leaf in leaves.items() if k not in real}

    def flat(*values: Any) -> dict[str, Any]:
        return function({**fixed, **dict(zip(real, values, strict=True))})

    if not real:
        found = function(leaves)
        return found, {k: _zeros(value, order) for k, value in found.items()}
    return jet.jet(flat, [leaves[k] for k in real], [terms[k] for k in real])


def _zeros(like: Any, count: int) -> list[Any]:
    return [jnp.zeros_like(like)] * count


def _stacked(values: dict[str, Any], derivatives: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: jnp.stack(
            [value, *(d[name] / math.factorial(k + 1) for k, d in enumerate(derivatives))]
        )
        for name, value in values.items()
    }
