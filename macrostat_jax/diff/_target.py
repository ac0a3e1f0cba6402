"""What is differentiated, and with respect to what: labels, functions, and their inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax

from .._inputs import Inputs, Plan
from .._model import Model
from .._record import Field, Record
from .._trajectory import last_state, trajectory

Of: TypeAlias = str | Sequence[str] | Callable[[Any], Any] | None
Wrt: TypeAlias = str | Sequence[str]

GROUPS = ("params", "scenario", "initial", "noise")
PATHS = ("scenario", "noise")
"""The groups whose leaves have a time axis."""


class Input(NamedTuple):
    """One leaf of the inputs: `tax_rate`, `scenario.government_demand`, `initial.household_money_stock`."""

    group: str
    key: str

    @property
    def label(self) -> str:
        return self.key if self.group == "params" else f"{self.group}.{self.key}"


class Target(NamedTuple):
    """A derivative's static description: it is part of the key under which it is compiled."""

    plan: Plan
    of: tuple[str, ...] | Callable[[Any], Any]
    wrt: tuple[Input, ...]
    mode: str = "reverse"

    def split(self, inputs: Inputs) -> dict[str, Any]:
        """The differentiated leaves by label."""
        return {one.label: getattr(getattr(inputs, one.group), one.key) for one in self.wrt}

    def moved(self, inputs: Inputs, x: dict[str, Any]) -> Inputs:
        """The inputs with the differentiated leaves `x`."""
        for group in GROUPS:
            changes = {one.key: x[one.label] for one in self.wrt if one.group == group}
            if changes:
                record = getattr(inputs, group).replace(**changes)
                inputs = inputs._replace(**{group: record})
        return inputs

    def read(self, path: Any) -> Any:
        """The outputs of a path of states."""
        if callable(self.of):
            return self.of(path)
        return {key: getattr(path, key) for key in self.of}

    def outputs(self, inputs: Inputs, x: dict[str, Any]) -> Any:
        """The outputs as a function of the differentiated leaves `x`; traced."""
        inputs = self.moved(inputs, x)
        if isinstance(self.of, Final):
            return self.of.function(last_state(self.plan, inputs))
        return self.read(trajectory(self.plan, inputs))


@dataclasses.dataclass(frozen=True)
class Final:
    """A function of the state after the last period; as a function of the path it reads its last row."""

    function: Callable[[Any], Any]

    def __call__(self, path: Any) -> Any:
        return self.function(path[-1])

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


def final(function: Callable[[Any], Any]) -> Final:
    """A loss, or other outputs, of the final state: `gradient(model, final(loss))`.

    The derivative is that of `lambda path: function(path[-1])`, without the memory of the path.

    Args:
        function: from the state after the last period, a `State` with leaves of their declared shapes,
            to a number or a pytree of arrays.
    """
    return Final(function)


def resolve_of(
    model: Model, of: Of, *, whole: bool = False
) -> tuple[str, ...] | Callable[[Any], Any]:
    """Variable names as a tuple of fields, None as those that are real numbers; a function as it is.

    `whole` allows variables of whole numbers: their expectations have derivatives.
    """
    if callable(of):
        return of
    names = model.real if of is None else (of,) if isinstance(of, str) else tuple(of)
    keys = tuple(model.State.key_of(name) for name in names)
    return keys if whole else tuple(_real(model, key) for key in keys)


def _real(model: Model, key: str) -> str:
    if key not in model.real:
        raise TypeError(f"{model.name}: {key!r} takes whole numbers only: it has no derivatives.")
    return key


def resolve_wrt(model: Model, wrt: Wrt) -> tuple[Input, ...]:
    """`"params"`, `"scenario"`, `"initial"`, `"noise"`, single names, or several of these, as leaves.

    Raises:
        KeyError: an unknown name, with the list of what there is.
    """
    records = _records(model)
    found: list[Input] = []
    for name in (wrt,) if isinstance(wrt, str) else tuple(wrt):
        if name in records:
            keys = model.real if name == "initial" else records[name].fields
            found += [Input(name, key) for key in keys]
            continue
        group, _, key = name.rpartition(".")
        group = group or "params"
        if group not in records:
            raise KeyError(
                f"{name!r}: write a parameter's name, scenario.<series>, initial.<variable>, "
                f"noise.<random input>, or one of {', '.join(records)}."
            )
        key = records[group].key_of(key)
        found.append(Input(group, _real(model, key) if group == "initial" else key))
    if not found:
        raise KeyError(f"{model.name} has nothing of the kind {wrt!r} to differentiate by.")
    return tuple(dict.fromkeys(found))


def field_of(model: Model, one: Input) -> Field:
    return _records(model)[one.group].fields[one.key]


def _records(model: Model) -> dict[str, type[Record]]:
    kinds = (model.Params, model.Scenario, model.State, model.Noise)
    return {group: kind for group, kind in zip(GROUPS, kinds, strict=True) if kind is not None}


def with_noise(plan: Plan, inputs: Inputs, wrt: tuple[Input, ...]) -> Inputs:
    """Inputs whose random inputs are explicit where they are differentiated."""
    if inputs.noise is not None or not any(one.group == "noise" for one in wrt):
        return inputs
    from .._inputs import float_dtype

    noise = plan.model.noise(inputs.key, periods=plan.periods, dtype=float_dtype(inputs))
    return inputs._replace(noise=noise, key=None)


def with_initial(plan: Plan, inputs: Inputs, wrt: tuple[Input, ...]) -> Inputs:
    """Inputs whose initial state is explicit where it is differentiated."""
    if inputs.initial is not None or not any(one.group == "initial" for one in wrt):
        return inputs
    model = plan.model
    if model.random_start:
        raise TypeError(
            f"{model.name} draws its initial state: pass initial=... to differentiate by it."
        )
    from .._inputs import float_dtype
    from .._trajectory import canonical_state

    first = jax.tree.map(lambda leaf: leaf[0], inputs.scenario)
    state = model.initial_state(model.constrain(inputs.params), first)
    state = canonical_state(model, state, float_dtype(inputs))
    return inputs._replace(initial=state)
