"""A model: records and functions declared as one, its variants, and the inputs that it runs with."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from . import _constraints, _series, _tracing, _values, _verification
from ._constraints import AddingUp
from ._record import Record, resized_class
from ._verification import RECORDS

P = TypeVar("P", bound=Record)
X = TypeVar("X", bound=Record)
S = TypeVar("S", bound=Record)


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
        _verification.verify_records(self)
        self.initial_state, self.step, self.steady_state = initial_state, step, steady_state
        self.log_density = log_density
        self.constraints = tuple(constraints)
        self.scenarios = {key: dict(series) for key, series in (scenarios or {}).items()}
        self.shock_series = tuple(shocks)
        self.trigger, self.periods = trigger, periods
        self.solved = tuple(solved)
        self.random = len(_verification.positional(step)) > 3
        self.random_start = len(_verification.positional(initial_state)) > 2
        options: dict[str, Any] = {}
        for function in _verification.FUNCTIONS:
            options |= _verification.options(getattr(self, function))
        sizes = _verification.axes(self)
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
        _verification.verify(self)
        self._trace()

    def _trace(self) -> None:
        traced = _tracing.traced(self)
        self.remembered, self.unchanged = traced.remembered, traced.unchanged
        self.recomputed, self.real = traced.recomputed, traced.real

    def __getstate__(self) -> dict[str, Any]:
        # Pickle finds no resized record by its name, and knows no read-only mappings. Variants are made
        # anew as they are wanted.
        records = {name: getattr(self, name) for name in RECORDS}
        made_of = {name: one and one._made_of() for name, one in records.items()}
        return {**self.__dict__, **made_of, "options": dict(self.options), "_variants": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        records = {name: state[name] and resized_class(*state[name]) for name in RECORDS}
        options = MappingProxyType(state["options"])
        self.__dict__.update({**state, **records, "options": options})

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
        given = self.Params._by_key(values)
        for key, value in list(given.items()):
            field = self.Params.fields[key]
            if field.packed is not None:
                given[key] = value = field.packed.pack(value)
            given[key] = value = _values.numbers(self.name, "parameter", field, value)
            _values.check(self.name, field, value)
            if field.shape and np.shape(value) == ():
                given[key] = jnp.full(field.shape, value)
        defaults = {
            key: _values.default(self.name, field)
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

        def change(variant: Model[P, X, S]) -> None:
            _constraints.verify(self.name, self.Params, constraints)
            variant.constraints = constraints

        return self._variant(constraints, change)

    def configure(self, **options: Any) -> Model[P, X, S]:
        """The same model with other options: `model.configure(smooth=100.0)`.

        Args:
            options: names of `model.options` -> hashable values. A model is compiled anew for each.

        Raises:
            KeyError: an option that the model does not have. TypeError: a value that is not hashable,
                such as an array: what one differentiates by is a parameter.
        """
        for name, value in options.items():
            if name not in self.options:
                known = ", ".join(f"{k}={v!r}" for k, v in self.options.items()) or "none"
                hint = "" if name not in _verification.axes(self) else " Sizes are set with resize."
                raise KeyError(f"{self.name} has no option {name!r}. There are: {known}.{hint}")
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    f"{self.name}: the option {name!r} takes a hashable value (a number, a text, a "
                    f"tuple), not {value!r}."
                ) from None
        chosen = {k: v for k, v in options.items() if not _verification.same(v, self.options[k])}
        if not chosen:
            return self

        def change(variant: Model[P, X, S]) -> None:
            variant.options = MappingProxyType({**self.options, **chosen})
            variant._choose(chosen)
            variant._trace()

        kinds = tuple(type(chosen[name]) for name in sorted(chosen))  # as 1 == 1.0 == True
        return self._variant(("options", *sorted(chosen.items()), kinds), change)

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
        known = _verification.axes(self)
        new: dict[str, Any] = {}
        for name, size in sizes.items():
            if name not in known:
                there = ", ".join(known) or "none"
                raise KeyError(f"{self.name} has no axis {name!r}. There are: {there}.")
            labelled = bool(known[name].labels)
            is_size = isinstance(size, int | np.integer) and not isinstance(size, bool)
            is_labels = isinstance(size, Iterable) and not isinstance(size, str)
            if not (is_labels if labelled else is_size):
                raise TypeError(
                    f"{self.name}: the axis {name!r} takes "
                    f"{'a sequence of labels' if labelled else 'a size'}, not {size!r}."
                )
            new[name] = tuple(size) if is_labels else int(size)  # pyright: ignore[reportArgumentType]
        new = {k: v for k, v in new.items() if v != (known[k].labels or known[k].size)}
        if not new:
            return self

        def change(variant: Model[P, X, S]) -> None:
            variant.Params, variant.Scenario, variant.State = (
                record.resized(new) for record in (self.Params, self.Scenario, self.State)
            )
            if self.Noise is not None:
                variant.Noise = self.Noise.resized(new)
            variant._choose(new)
            _verification.verify(variant)
            variant._trace()

        return self._variant(("sizes", *sorted(new.items())), change)

    def _variant(self, key: Any, change: Callable[[Model[P, X, S]], None]) -> Model[P, X, S]:
        """The one variant that `key` stands for, whichever thread was the first to make it."""
        if key not in self._variants:
            variant = object.__new__(type(self))
            variant.__dict__.update(self.__dict__, _variants={})
            change(variant)
            self._variants.setdefault(key, variant)
        return self._variants[key]

    def _choose(self, values: Mapping[str, Any]) -> None:
        """Gives the functions those of the keyword-only arguments that they take."""
        for name in _verification.FUNCTIONS:
            function = getattr(self, name)
            taken = {k: v for k, v in values.items() if k in _verification.options(function)}
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
        return self.Scenario(**_series.exogenous(self, name, periods, start, series))

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
        return _series.shocks(self, name, periods, start, series)

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
        horizon, _ = _series.window(self, periods, None)
        key = self.check_key(key)
        if jnp.ndim(key):
            raise TypeError(
                f"{self.name}: noise draws from one key, not from {key.shape}; for many, "
                "jax.vmap(model.noise)(keys)."
            )
        dtype = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
        first, key = self.start_key(key)
        drawn = self.draws(self.period_keys(key, horizon), dtype)
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

    def draws(self, keys: Any, dtype: Any) -> Any:
        """The random inputs of many periods, those that `draw` gives for each of the keys."""
        if jax.random.key_impl(keys) == "threefry2x32":
            return jax.vmap(lambda key: self.draw(key, dtype))(keys)
        # Other generators than JAX's default draw other numbers for many keys at once than for each.
        return jax.lax.map(lambda key: self.draw(key, dtype), keys)

    @staticmethod
    def period_keys(key: Any, periods: int) -> Any:
        """A key for each period. The period is folded in, rather than the key split T ways: a longer run
        then begins as a shorter one."""
        return jax.vmap(lambda t: jax.random.fold_in(key, t))(jnp.arange(periods))

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
        if kind not in _series.SHOCKS:
            raise KeyError(
                f"{label!r} is neither a series of {self.name} ({', '.join(self.Scenario.fields)}) nor "
                f"a parameter shock (a parameter's name and _add or _multiply)."
            )
        return self.Params.key_of(name), kind
