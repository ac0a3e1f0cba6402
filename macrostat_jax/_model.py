"""A model: its declaration, and the checks it makes of itself."""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from . import _constraints
from ._constraints import AddingUp
from ._record import Axis, Field, Record

P = TypeVar("P", bound=Record)
X = TypeVar("X", bound=Record)
S = TypeVar("S", bound=Record)

SHOCKS = ("add", "multiply")


class Model(Generic[P, X, S]):
    """A macroeconomic model, written once.

    Args:
        name: as in the register, for instance `"GL06SIM"`.
        Params, Scenario, State: the records of parameters, exogenous series and variables.
        initial_state: `(params, scenario) -> State` before the first period; `scenario` is its row.
        step: `(prior, params, scenario) -> State`, one period, pure. A random model takes a fourth
            argument, the period's draws of `Noise` (or, without one, a PRNG key of its own for every
            period); its `initial_state` may take a third.
            Keyword-only arguments with defaults, of any of the three functions, are the options of the
            model: choices that are no numbers to differentiate by, set with `configure`.
        steady_state: optional closed form, `(params, scenario) -> State`.
        Noise: the record of random inputs, of fields declared with `noise`. `simulate` draws them from
            its key, or takes them from the user.
        log_density: optional, `(prior, state, params, scenario) -> scalar`: the logarithm of the
            density, or probability, of the state given the one before. The state may depend on the
            parameters through that law alone, or through the path before. It makes the score function
            estimator apply (`macrostat_jax.stochastic`).
        constraints: adding-up constraints among parameters.
        scenarios: named scenarios: name -> {series: value from `trigger` on}. A series is an exogenous
            field, or a parameter shock `name_add` or `name_multiply`.
        shocks: the parameter shocks that the default scenario lists, as `name_add`.
        trigger: the period (0-based) from which named scenarios depart from the default one.
        periods: the default horizon.
        solved: the variables that a solver finds in each period (`macrostat_jax.solve`), which are
            NaN where it fails: `simulate` then says so.

    Raises:
        TypeError, ValueError: naming the model, the field and the rule that the declaration breaks.
    """

    def __init__(
        self,
        name: str,
        Params: type[P],
        Scenario: type[X],
        State: type[S],
        initial_state: Callable[..., S],
        step: Callable[..., S],
        steady_state: Callable[[P, X], S] | None = None,
        *,
        Noise: type[Record] | None = None,
        log_density: Callable[..., Any] | None = None,
        constraints: tuple[AddingUp, ...] = (),
        scenarios: Mapping[str, Mapping[str, Any]] | None = None,
        shocks: tuple[str, ...] = (),
        trigger: int = 0,
        periods: int = 100,
        solved: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.Params, self.Scenario, self.State, self.Noise = Params, Scenario, State, Noise
        self.initial_state, self.step, self.steady_state = initial_state, step, steady_state
        self.log_density = log_density
        self.constraints = tuple(constraints)
        self.scenarios = {key: dict(series) for key, series in (scenarios or {}).items()}
        self.shock_series = tuple(shocks)
        self.trigger, self.periods = trigger, periods
        self.solved = tuple(solved)
        self.random = _arguments(step) > 3
        self.random_start = _arguments(initial_state) > 2
        options: dict[str, Any] = {}
        for function in (initial_state, steady_state, log_density, step):
            options |= _options(function)
        sizes = {axis.name for axis in self._axes()}
        self.options: Mapping[str, Any] = MappingProxyType(
            {name: value for name, value in options.items() if name not in sizes}
        )
        """The keyword-only arguments of the model's functions, with their values: but for those that
        are sizes of axes, which `resize` sets."""
        self.remembered: tuple[str, ...] = ()
        """The variables whose last values the step reads: what a run carries from period to period."""
        self.unchanged: tuple[str, ...] = ()
        """Those of them that the step returns as they were given: a run keeps one copy of each."""
        self.recomputed = True
        """Whether reverse mode computes a period's intermediate values again instead of keeping them."""
        self.real: tuple[str, ...] = ()
        """The variables that are real numbers, which have derivatives: not positions, counts and flags."""
        self._variants: dict[Any, Model[P, X, S]] = {}
        _verify(self)

    def __repr__(self) -> str:
        counts = f"{len(self.Params.fields)} parameters, {len(self.State.fields)} variables"
        return f"Model({self.name}: {counts})"

    @property
    def description(self) -> str:
        """The docstring of the module that declares the model."""
        step = getattr(self.step, "func", self.step)  # without its options
        return inspect.cleandoc(getattr(inspect.getmodule(step), "__doc__", None) or "")

    @property
    def title(self) -> str:
        return self.description.partition("\n")[0]

    def params(self, **values: Any) -> P:
        """The default parameters, with `values` in place of some of them.

        Values are numbers (which fill a vector or matrix), or arrays of the declared shape, or with a
        batch axis before it; of a `Packed` parameter also the pytree.

        Raises:
            KeyError: an unknown name. TypeError: what is no number. ValueError: a wrong shape, a value
                that is not finite or lies outside its bounds.
        """
        given = {self.Params.key_of(name): value for name, value in values.items()}
        for key, value in list(given.items()):
            field = self.Params.fields[key]
            if field.packed is not None:
                given[key] = value = field.packed.pack(value)
            given[key] = value = _numbers(self, "parameter", field, value)
            _check_value(self, field, value)
            if field.shape and np.shape(value) == ():
                given[key] = jnp.full(field.shape, value)
        defaults = {
            key: _default(field, self.name)
            for key, field in self.Params.fields.items()
            if key not in given
        }
        return self.constrain(self.Params(**{**defaults, **given}))

    def constrain(self, params: P) -> P:
        """`params` with the derived parameter of each adding-up constraint recomputed."""
        return _constraints.constrain(params, self.constraints)

    def with_constraints(self, constraints: tuple[AddingUp, ...]) -> Model[P, X, S]:
        """The same model under other adding-up constraints; the same object where they are its own."""
        constraints = tuple(constraints)
        if constraints == self.constraints:
            return self
        if constraints not in self._variants:
            _constraints.verify(self.name, self.Params, constraints)
            variant = copy.copy(self)
            variant.constraints = constraints
            variant._variants = {}
            self._variants[constraints] = variant
        return self._variants[constraints]

    def configure(self, **options: Any) -> Model[P, X, S]:
        """The same model with other options: `model.configure(smooth=100.0)`.

        Args:
            options: names of `model.options` -> hashable values. A model is compiled anew for each.

        Raises:
            KeyError: an option that the model does not have.
        """
        for name in options:
            if name not in self.options:
                known = ", ".join(f"{k}={v!r}" for k, v in self.options.items()) or "none"
                raise KeyError(f"{self.name} has no option {name!r}. There are: {known}.")
        chosen = {k: v for k, v in options.items() if v != self.options[k]}
        if not chosen:
            return self
        key = ("options", *sorted(chosen.items()))
        if key not in self._variants:
            variant = copy.copy(self)
            variant.options = MappingProxyType({**self.options, **chosen})
            variant._choose(chosen)
            variant._variants = {}
            _verify_step(variant)
            self._variants[key] = variant
        return self._variants[key]

    def resize(self, **sizes: int | Sequence[str]) -> Model[P, X, S]:
        """The same model with other numbers of agents, or other sectors.

            model.resize(firm=5_000)
            model.resize(sector=("Farms", "Mines", "Shops"))

        Args:
            sizes: the name of an axis -> its size, or its labels if it has labels. The step sees the
                sizes in the shapes of its arguments; a function with an option of the axis's name
                (`initial_state(params, scenario, *, firm=1000)`) is given the size there. An array of
                defaults that no longer fits is dropped: `params` (or `scenario`) then asks for the
                values.

        Raises:
            KeyError: an axis that the model does not have. TypeError: a size for an axis with labels,
                or labels for one without.
        """
        known = {axis.name: axis.labels or axis.size for axis in self._axes()}
        new: dict[str, Any] = {}
        for name, size in sizes.items():
            if name not in known:
                there = ", ".join(known) or "none"
                raise KeyError(f"{self.name} has no axis {name!r}. There are: {there}.")
            labelled = isinstance(known[name], tuple)
            if isinstance(size, int | np.integer) is labelled or isinstance(size, str):
                raise TypeError(
                    f"{self.name}: the axis {name!r} takes "
                    f"{'a sequence of labels' if labelled else 'a size'}, not {size!r}."
                )
            new[name] = tuple(size) if labelled else int(size)  # pyright: ignore[reportArgumentType]
        new = {name: size for name, size in new.items() if size != known[name]}
        if not new:
            return self
        key = ("sizes", *sorted(new.items()))
        if key not in self._variants:
            variant = copy.copy(self)
            variant.Params, variant.Scenario, variant.State = (
                record.resized(new) for record in (self.Params, self.Scenario, self.State)
            )
            if self.Noise is not None:
                variant.Noise = self.Noise.resized(new)
            variant._choose(new)
            variant._variants = {}
            _verify(variant)
            self._variants[key] = variant
        return self._variants[key]

    def _axes(self) -> list[Axis]:
        records = (self.Params, self.Scenario, self.State, self.Noise)
        fields = [f for record in records if record is not None for f in record.fields.values()]
        return [axis for field in fields for axis in field.axes]

    def _choose(self, values: Mapping[str, Any]) -> None:
        """Gives the functions those of the keyword-only arguments that they take."""
        for name in ("initial_state", "step", "steady_state", "log_density"):
            function = getattr(self, name)
            taken = {k: v for k, v in values.items() if k in _options(function)}
            if taken:
                setattr(self, name, functools.partial(function, **taken))

    def scenario(
        self,
        name: str | None = None,
        *,
        periods: int | None = None,
        start: int | None = None,
        **series: Any,
    ) -> X:
        """The exogenous paths of a scenario: the default one, a named one, or your own.

        Args:
            name: one of `model.scenarios`; None is the default scenario.
            periods: T, the horizon.
            start: the period (0-based) at which `series` set in.
            series: a number holds from `start` to the end; an array of n values holds for n periods,
                after which the default resumes.

        Returns:
            The record of paths, each of shape (T, *shape).
        """
        if not self.Scenario.fields and periods is not None:
            raise ValueError(
                f"{self.name} has no exogenous series, whose length could say how long to run: pass "
                f"periods={periods} to simulate."
            )
        horizon, start = self._window(periods, start)
        changes = {**self._named(name, shocks=False), **series}
        paths: dict[str, Any] = {
            key: np.broadcast_to(
                np.nan if field.default is None else field.default, (horizon, *field.shape)
            )
            for key, field in self.Scenario.fields.items()
        }
        for label, value in changes.items():
            key = self.Scenario.key_of(label)
            begin = start if label in series else self.trigger
            paths[key] = _spliced(self, self.Scenario.fields[key], paths[key], begin, value)
        for key, field in self.Scenario.fields.items():
            path = _concrete(paths[key])
            if field.default is None and path is not None and np.isnan(path).any():
                _default(field, self.name)
        return self.Scenario(**paths)

    def shocks(
        self,
        name: str | None = None,
        *,
        periods: int | None = None,
        start: int | None = None,
        **series: Any,
    ) -> dict[str, Any]:
        """Parameter shocks over time, for `simulate`: `tax_rate_add=0.05`, `tax_rate_multiply=1.1`.

        In every period a parameter is `value * multiply + add`. Arguments as for `scenario`.

        Returns:
            Shock name -> path of shape (T, *shape).
        """
        horizon, start = self._window(periods, start)
        paths: dict[str, Any] = {}
        for label, value in {**self._named(name, shocks=True), **series}.items():
            key, kind = self.split_shock(label)
            field = self.Params.fields[key]
            begin = start if label in series else self.trigger
            neutral = np.full((horizon, *field.shape), 1.0 if kind == "multiply" else 0.0)
            paths[f"{key}_{kind}"] = _spliced(self, field, neutral, begin, value)
        return paths

    def noise(self, key: Any, *, periods: int | None = None, dtype: Any = None) -> Any:
        """The random inputs that `simulate` draws from `key`: what it runs with, to look at or change.

        Args:
            key: a PRNG key, `jax.random.key(seed)`.
            periods: T; default: `model.periods`.
            dtype: of the draws; default: JAX's default float. float32 draws are other draws.

        Returns:
            The model's `Noise`, each field of shape (T, *shape); (T + 1, *shape), the initial state's
            draws first, where `initial_state` takes noise.

        Raises:
            TypeError: the model declares no noise, or `key` is no key.
        """
        if self.Noise is None:
            raise TypeError(f"{self.name} declares no random inputs (Noise).")
        horizon, _ = self._window(periods, None)
        dtype = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
        first, key = self.start_key(self.check_key(key))
        drawn = jax.vmap(lambda t: self.draw(jax.random.fold_in(key, t), dtype))(
            jnp.arange(horizon)
        )
        if first is None:
            return drawn
        start = self.draw(first, dtype)
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, drawn)

    def draw(self, key: Any, dtype: Any) -> Any:
        """One period's random inputs. Each field has a stream of its own: another field added at the
        end leaves the draws of those before as they were."""
        assert self.Noise is not None
        fields = self.Noise.fields.values()
        return self.Noise(
            **{
                field.key: field.draw(jax.random.fold_in(key, at), field.shape, dtype)  # pyright: ignore[reportOptionalCall]
                for at, field in enumerate(fields)
            }
        )

    def start_key(self, key: Any) -> tuple[Any, Any]:
        """The key of the initial state, None where it is not random, and that of the periods."""
        if not self.random_start:
            return None, key
        key, first = jax.random.split(key)
        return first, key

    def check_key(self, key: Any) -> Any:
        """`key`, if it is a PRNG key or a batch of them.

        Raises:
            TypeError: it is not; with what to pass.
        """
        if key is None:
            alternative = " or noise=model.noise(...)" if self.Noise is not None else ""
            raise TypeError(f"{self.name} is random: pass key=jax.random.key(seed){alternative}.")
        dtype = getattr(key, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
            raise TypeError(
                f"{self.name}: key must be a PRNG key, jax.random.key(seed), or several, "
                f"macrostat_jax.run_keys(seed, runs); not {key!r}."
            )
        return key

    def split_shock(self, label: str) -> tuple[str, str]:
        """`"tax_rate_add"` is `("tax_rate", "add")`; anything else is a `KeyError`."""
        name, _, kind = label.rpartition("_")
        if kind not in SHOCKS:
            raise KeyError(
                f"{label!r} is neither a series of {self.name} ({', '.join(self.Scenario.fields)}) nor "
                f"a parameter shock (a parameter's name and _add or _multiply)."
            )
        return self.Params.key_of(name), kind

    def _window(self, periods: int | None, start: int | None) -> tuple[int, int]:
        horizon = self.periods if periods is None else periods
        if horizon < 1:
            raise ValueError(f"periods must be at least 1, not {horizon}.")
        begin = 0 if start is None else start
        if not 0 <= begin < horizon:
            raise ValueError(f"start must lie in 0 to {horizon - 1}, not {begin}.")
        return horizon, begin

    def _named(self, name: str | None, *, shocks: bool) -> dict[str, Any]:
        if name is None:
            return {}
        if name not in self.scenarios:
            known = ", ".join(repr(key) for key in self.scenarios) or "none besides the default"
            raise KeyError(f"{self.name} has no scenario {name!r}. There are: {known}.")
        series = self.scenarios[name]
        return {key: v for key, v in series.items() if (key not in self.Scenario.fields) == shocks}


def _arguments(function: Callable[..., Any]) -> int:
    """How many arguments a function takes by position."""
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in by_position for p in inspect.signature(function).parameters.values())


def _options(function: Callable[..., Any] | None) -> dict[str, Any]:
    """The keyword-only arguments of a function, with their defaults."""
    if function is None:
        return {}
    return {
        name: p.default
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _default(field: Field, model: str = "") -> Any:
    """A Python number where the field is scalar: it takes on the dtype of what it meets."""
    if field.default is None:
        raise ValueError(
            f"{model}: {field.key!r} of shape {field.shape} has no default in this size: give its "
            "values for the whole run."
        )
    return np.broadcast_to(field.default, field.shape) if field.shape else field.default


def _concrete(value: Any) -> np.ndarray | None:
    return None if isinstance(value, jax.core.Tracer) else np.asarray(value)


def _numbers(model: Model, kind: str, field: Field, value: Any) -> Any:
    """`value`; a list or tuple as an array of floats."""
    if isinstance(value, jax.core.Tracer):
        return value
    try:
        array = np.asarray(value)
    except ValueError:  # rows of several lengths
        array = np.asarray(None)
    if array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.number):
        raise TypeError(f"{model.name}: {kind} {field.key!r} takes numbers, not {value!r}.")
    return array.astype(float) if isinstance(value, list | tuple) else value


def _check_value(model: Model, field: Field, value: Any) -> None:
    shape = np.shape(value)
    if shape not in ((), field.shape) and shape[1:] != field.shape:
        raise ValueError(
            f"{model.name}: parameter {field.key!r} has shape {field.shape} (or a batch axis before "
            f"it), not {shape}."
        )
    array = _concrete(value)
    if array is None:
        return
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{model.name}: parameter {field.key!r} must be finite, not {value}.")
    if not field.within(array):
        raise ValueError(
            f"{model.name}: parameter {field.key!r} must lie in its bounds {field.interval}, "
            f"not {value}."
        )


def _spliced(model: Model, field: Field, path: Any, start: int, value: Any) -> Any:
    """`path` with `value` from `start` on: a number to the end, an array for its own length."""
    value = _numbers(model, "series", field, value)
    horizon, shape = path.shape[0], np.shape(value)
    array = _concrete(value)
    if array is not None and not np.all(np.isfinite(array)):
        raise ValueError(f"{model.name}: series {field.key!r} must be finite, not {value}.")
    if shape in ((), field.shape):
        length = horizon - start
    elif shape[1:] == field.shape and shape[0] <= horizon - start:
        length = shape[0]
    else:
        raise ValueError(
            f"{model.name}: series {field.key!r} takes one value of shape {field.shape}, or up to "
            f"{horizon - start} of them (from period {start} to {horizon}), not shape {shape}."
        )
    if array is None:
        return jnp.asarray(path).at[start : start + length].set(value)
    result = np.array(path, dtype=np.result_type(path, array))
    result[start : start + length] = array
    return result


def _verify(model: Model) -> None:
    """The checks of a declaration. Traces `initial_state` and `step` once, without compiling."""
    roles = {"Params": ("param",), "Scenario": ("exogenous",), "State": ("index", "flow", "stock")}
    if model.Noise is not None:
        roles["Noise"] = ("noise",)
        if not model.random:
            raise TypeError(
                f"Model {model.name}: it declares Noise, and its step takes no fourth argument for it."
            )
    for record, allowed in roles.items():
        for key, field in getattr(model, record).fields.items():
            if field.role not in allowed:
                raise TypeError(
                    f"Model {model.name}: {record}.{key} is declared as {field.role}; "
                    f"allowed there: {', '.join(allowed)}."
                )
    for field in (*model.Params.fields.values(), *model.Scenario.fields.values()):
        _verify_default(model.name, field)
    pays: dict[str, str | float] = {}
    for key, field in model.State.fields.items():
        if field.role == "stock" and field.asset is None and field.liability is None:
            raise ValueError(
                f"Model {model.name}: the stock {key!r} belongs to nobody: say whose asset or "
                f"liability it is, or declare it as index."
            )
        if field.price:
            _verify_factor(model, key, field, "price", field.price)
        if field.interest and isinstance(field.interest, str):
            _verify_factor(model, key, field, "rate of interest", field.interest)
        if field.instrument and pays.setdefault(field.instrument, field.interest) != field.interest:
            raise ValueError(
                f"Model {model.name}: the stock {key!r} says of the interest on {field.instrument!r} "
                f"{field.interest!r}, another stock {pays[field.instrument]!r}."
            )
    for name, value in model.options.items():
        if value is inspect.Parameter.empty:
            raise TypeError(f"Model {model.name}: the option {name!r} needs a default.")
    for key in model.solved:
        model.State.key_of(key)
    _constraints.verify(model.name, model.Params, model.constraints)
    for label in model.shock_series:
        model.split_shock(label)
    if not 0 <= model.trigger < model.periods:
        raise ValueError(
            f"Model {model.name}: trigger {model.trigger} is not within {model.periods} periods."
        )
    for name in model.scenarios:
        if all(field.default is not None for field in model.Scenario.fields.values()):
            model.scenario(name)
        model.shocks(name)
    _verify_step(model)


def _verify_factor(model: Model, key: str, field: Field, what: str, name: str) -> None:
    factor = model.State.fields.get(name)
    if factor is None:
        raise ValueError(
            f"Model {model.name}: the {what} {name!r} of the stock {key!r} is no variable."
        )
    if factor.shape not in ((), field.shape):
        raise ValueError(
            f"Model {model.name}: the {what} {name!r} of the stock {key!r} has the shape "
            f"{factor.shape}; it must be a scalar or of the stock's shape {field.shape}."
        )


def _verify_default(model: str, field: Field) -> None:
    if field.default is None:
        return
    low, high = field.bounds
    try:
        default = np.broadcast_to(np.asarray(field.default, float), field.shape)
    except ValueError:
        raise ValueError(
            f"Model {model}: the default of {field.key!r} has shape {np.shape(field.default)}, "
            f"declared is {field.shape}."
        ) from None
    if math.isnan(low) or math.isnan(high) or low > high:
        raise ValueError(f"Model {model}: {field.key!r} has the bounds [{low}, {high}].")
    if not (np.all(np.isfinite(default)) and field.within(default)):
        raise ValueError(
            f"Model {model}: the default {field.default} of {field.key!r} is not within its bounds "
            f"{field.interval}."
        )


def abstract_inputs(model: Model) -> tuple[Any, ...]:
    """The shapes and dtypes of what `step` takes: prior state, parameters, exogenous row, and the
    noise or the key."""
    return _abstract(model)[1]


def _abstract(model: Model) -> tuple[Any, tuple[Any, ...]]:
    """What `initial_state` gives, and what `step` takes."""
    dtype = jax.dtypes.canonicalize_dtype(float)

    def floats(record: type[Record]) -> Any:
        return record(
            **{k: jax.ShapeDtypeStruct(field.shape, dtype) for k, field in record.fields.items()}
        )

    random: Any = jax.eval_shape(lambda: jax.random.key(0))
    if model.Noise is not None:
        random = jax.eval_shape(lambda: model.draw(jax.random.key(0), dtype))
        for name, field in model.Noise.fields.items():
            if getattr(random, name).shape != field.shape:
                raise ValueError(
                    f"Model {model.name}: the distribution of {name!r} draws the shape "
                    f"{getattr(random, name).shape}, declared is {field.shape}."
                )
    params, row = floats(model.Params), floats(model.Scenario)
    more = (random,) if model.random_start else ()
    first = _traced_state(model, "initial_state", model.initial_state, params, row, *more)
    kept = {
        name: jax.ShapeDtypeStruct(field.shape, getattr(first, name).dtype)
        for name, field in model.State.fields.items()
        if _is_whole(getattr(first, name))
    }
    prior = floats(model.State).replace(**kept)
    return first, (prior, params, row, *((random,) if model.random else ()))


def _is_whole(value: Any) -> bool:
    """Positions, counts and flags keep their dtype over a run; Python's integers become floats."""
    return not (jnp.issubdtype(value.dtype, jnp.floating) or value.weak_type)


def _verify_step(model: Model) -> None:
    first, inputs = _abstract(model)
    after, jaxpr = _traced_step(model, *inputs)
    read = {id(var) for equation in jaxpr.eqns for var in equation.invars}
    read |= {id(var) for var in jaxpr.outvars}
    priors = zip(model.State.fields, jaxpr.invars, strict=False)  # the prior state comes first
    model.remembered = tuple(key for key, var in priors if id(var) in read)
    through = zip(model.State.fields, jaxpr.invars, jaxpr.outvars, strict=False)
    model.unchanged = tuple(key for key, var, out in through if out is var)
    # The derivative of a largest or smallest element goes to those that equal it. Computed again by
    # another instruction, none may to the last bit, and the derivative would be lost.
    model.recomputed = not _uses(jaxpr, ("reduce_max", "reduce_min"))
    model.real = tuple(key for key in model.State.fields if not _is_whole(getattr(first, key)))
    states = {"initial_state": first, "step": after}
    if model.log_density is not None:
        _verify_density(model, model.log_density, inputs)
    if model.steady_state is not None:
        _, params, row, *_ = inputs
        traced = _traced_state(model, "steady_state", model.steady_state, params, row)
        states["steady_state"] = traced
    for name, field in model.State.fields.items():
        for function, state in states.items():
            shape = np.shape(getattr(state, name))
            if shape not in ((), field.shape):
                raise ValueError(
                    f"Model {model.name}: {function} gives {name!r} the shape {shape}, "
                    f"declared is {field.shape}."
                )
        dtypes = [
            value.dtype if _is_whole(value) else "float"
            for value in (getattr(first, name), getattr(after, name))
        ]
        if dtypes[0] != dtypes[1]:
            raise TypeError(
                f"Model {model.name}: {name!r} changes its dtype over a step: initial_state gives "
                f"{dtypes[0]}, step gives {dtypes[1]}."
            )


def _verify_density(model: Model, log_density: Any, inputs: tuple[Any, ...]) -> None:
    if not model.random:
        raise TypeError(f"Model {model.name}: it declares log_density, and its step is not random.")
    prior, params, row, *_ = inputs
    trace = functools.partial(jax.eval_shape, log_density)
    value = _noted(model, "log_density", trace, prior, prior, params, row)
    scalar = getattr(value, "shape", None) == ()
    if not (scalar and jnp.issubdtype(value.dtype, jnp.floating)):
        raise TypeError(
            f"Model {model.name}: log_density must return one real number, not {value}."
        )


def _uses(jaxpr: Any, names: tuple[str, ...]) -> bool:
    """Whether a program, or one it calls, has one of these operations on the way to its results, but for
    ways that `stop_gradient` closes to derivatives. Programs with loops that end by a condition do not
    count, those of solvers: no derivative runs backwards through them."""
    if any(equation.primitive.name == "while" for equation in jaxpr.eqns):
        return False
    leads = {id(var) for var in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        name = equation.primitive.name
        if name == "stop_gradient" or not any(id(var) in leads for var in equation.outvars):
            continue
        if name in names or any(_uses(one, names) for one in jaxprs_in_params(equation.params)):
            return True
        leads |= {id(var) for var in equation.invars}
    return False


def _traced_step(model: Model, *args: Any) -> tuple[Any, Any]:
    """The shapes of what the step returns, and its equations."""
    trace = jax.make_jaxpr(model.step, return_shape=True)
    jaxpr, state = _noted(model, "step", trace, *args)
    return _checked_state(model, "step", state), jaxpr.jaxpr


def _traced_state(model: Model, name: str, function: Callable[..., Any], *args: Any) -> Any:
    state = _noted(model, name, functools.partial(jax.eval_shape, function), *args)
    return _checked_state(model, name, state)


def _noted(model: Model, name: str, trace: Callable[..., Any], *args: Any) -> Any:
    try:
        return trace(*args)
    except Exception as error:
        error.add_note(
            f"Model {model.name}: raised by {name}, which is traced when it is declared."
        )
        raise


def _checked_state(model: Model, name: str, state: Any) -> Any:
    # A resized model's records are subclasses, of the same fields, of those that its functions name.
    known = isinstance(state, Record) and issubclass(model.State, type(state))
    if not known or state.fields.keys() != model.State.fields.keys():
        raise TypeError(
            f"Model {model.name}: {name} must return {model.State.__qualname__}, "
            f"not {type(state).__name__}."
        )
    return state
