"""The inputs of the runs of a sweep: which rows of which arrays a run takes."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .. import _fingerprint
from .._inputs import Inputs, Plan, prepare
from .._model import Model
from . import _places
from ._cross import Cross
from ._designs import Design


class Source(NamedTuple):
    """An input of the simulation as host memory. Run r takes the row `r // stride % size - first`.

    size 0: all runs share the array as it is. PRNG keys travel as their numbers, `impl` says of which
    kind they are.
    """

    array: np.ndarray
    stride: int = 1
    size: int = 0
    first: int = 0
    impl: str | None = None

    def take(self, rows: np.ndarray) -> np.ndarray:
        if not self.size:
            return self.array
        return self.array[rows // self.stride % self.size - self.first]

    def whole(self, count: int) -> np.ndarray:
        """What all runs take of an uncut one, without the indices of `take`: they would be as large."""
        if not self.size:
            return self.array
        found = np.repeat(self.array, self.stride, axis=0)
        return found if len(found) == count else np.resize(found, (count, *found.shape[1:]))

    def cut(self, start: int, stop: int) -> Source:
        """What runs start to stop - 1 need of it, of an array whose rows do not recur."""
        first, last = start // self.stride, (stop - 1) // self.stride + 1
        return self._replace(array=self.array[first - self.first : last - self.first], first=first)


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
    """All runs of a sweep.

    Attributes:
        count: how many there are.
        plan: what the simulation is specialised to.
        sources: an input each, in the order of `form`.
        form: `Inputs` with numbers in place of arrays.
        origin: how the points were made, of what JSON can hold.
        labels: what else tells runs apart: scenarios and seeds.
    """

    count: int
    plan: Plan
    sources: tuple[Source, ...]
    form: Any
    origin: Any
    labels: dict[str, Source]

    @functools.cached_property
    def named(self) -> dict[str, Source]:
        """Input -> source: `params.tax_rate`, `scenario.government_demand`, ..."""
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(self.form)]
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
        return dict(zip(names, self.sources, strict=True))

    def columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What tells runs apart as columns: the parameters that vary, scenario and seed."""
        found: dict[str, np.ndarray] = {}
        for key, field in self.plan.model.Params.fields.items():
            source = self.named[f"params.{key}"]
            if source.size:
                flat = source.take(rows).reshape(len(rows), math.prod(field.shape))
                found |= dict(zip(_places.elements(key, field), flat.T, strict=True))
        return found | {name: source.take(rows) for name, source in self.labels.items()}

    def params(self) -> Any:
        """The parameters of all runs: those that vary of shape (count, *shape)."""
        named, keys = self.named, self.plan.model.Params.fields
        whole = {key: named[f"params.{key}"].whole(self.count) for key in keys}
        return self.form.params.replace(**whole)

    def labelled(self) -> dict[str, np.ndarray]:
        """The labels of all runs, (count,) each."""
        return {name: source.whole(self.count) for name, source in self.labels.items()}

    @property
    def about_bytes(self) -> int:
        """The memory of the parameters and labels of all runs."""
        params = [self.named[f"params.{key}"] for key in self.plan.model.Params.fields]
        several = [one for one in (*params, *self.labels.values()) if one.size]
        return sum(one.array.nbytes // one.size * self.count for one in several)

    def identity(self) -> dict[str, str]:
        """Input -> a short text that stands for its values."""
        found = {}
        for name, source in self.named.items():
            several = f" x {source.size} every {source.stride}" if source.size else ""
            kind = f"{source.impl} " if source.impl else ""  # of keys, which share their numbers
            found[name] = kind + _fingerprint.of_array(source.array) + several
        return found


def runs(
    model: Model,
    params: Any,
    scenario: Any = None,
    *,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    base: Any = None,
) -> Runs:
    """Checks what a sweep was given and brings it to a form of which chunks can be cut."""
    if not isinstance(model, Model):
        raise TypeError(f"Expected a model, for instance models.GL06SIM, not {model!r}.")
    crossed = params if isinstance(params, Cross) else None
    design = params.design if isinstance(params, Cross) else params
    origin: Any = {"kind": "given"}
    if isinstance(design, Design):
        origin = dict(params.origin)
        design = design.params(model, base)
    elif base is not None:
        raise ValueError("base completes a design; parameters are complete by themselves.")
    if crossed is not None and crossed.scenarios and scenario is not None:
        raise ValueError("The scenarios are crossed with the design: give no other one.")
    if crossed is not None and crossed.seeds and key is not None:
        raise ValueError("The seeds are crossed with the design: give no key.")
    seeds = crossed.seeds if crossed else ()
    if seeds:
        key = jax.random.key(seeds[0])
    given = list(crossed.scenarios.values()) if crossed and crossed.scenarios else [scenario]

    def prepared(scenario: Any) -> tuple[Inputs, Plan]:
        return prepare(model, design, scenario, shocks, initial, periods, key)

    found = [prepared(one) for one in given]
    plan = found[0][1]
    if plan.batch is None:
        raise ValueError(
            f"{model.name}: a sweep needs parameters, or another input, with a batch axis."
        )
    inputs, axes = found[0][0], iter(plan.batch)
    batched = jax.tree.map(lambda _: next(axes) is not None, inputs)
    points = next(len(x) for x, many in _pairs(inputs, batched) if many)
    if not points:
        raise ValueError(f"{model.name}: there are no runs: the batch axis has the length 0.")
    per_scenario, per_seed = len(given), max(len(seeds), 1)
    each = per_scenario * per_seed

    def plain(leaf: Any, many: bool) -> Source:
        array, impl = _on_host(leaf)
        return Source(array, each, points if many else 0, impl=impl)

    sources = jax.tree.map(plain, inputs, batched)
    if per_scenario > 1:
        sources = _with_scenarios(model, sources, [one for one, _ in found], per_seed)
    labels = {}
    if crossed is not None and crossed.scenarios:
        names = np.array(list(crossed.scenarios))
        labels["scenario"] = Source(names, per_seed, per_scenario)
    if seeds:
        numbers, impl = _on_host(jax.vmap(jax.random.key)(np.array(seeds)))
        sources = sources._replace(key=Source(numbers, 1, per_seed, impl=impl))
        labels["seed"] = Source(np.array(seeds), 1, per_seed)
    leaves, structure = jax.tree.flatten(sources, is_leaf=lambda x: isinstance(x, Source))
    plan = plan._replace(batch=tuple(0 if source.size else None for source in leaves))
    form = structure.unflatten(range(len(leaves)))
    return Runs(points * each, plan, tuple(leaves), form, origin, labels)


def _pairs(inputs: Inputs, batched: Any) -> Iterator[tuple[Any, bool]]:
    return zip(jax.tree.leaves(inputs), jax.tree.leaves(batched), strict=True)


def _with_scenarios(model: Model, sources: Any, found: list[Inputs], per_seed: int) -> Any:
    """Paths of scenarios, and of the shocks that they bring, one row for each scenario."""

    def stacked(take: Callable[[Inputs], Any]) -> Source:
        return Source(np.stack([np.asarray(take(one)) for one in found]), per_seed, len(found))

    labels = sorted({label for one in found for label in one.shocks})
    fields = {label: model.Params.fields[model.split_shock(label)[0]] for label in labels}
    known = {
        label: next(one.shocks[label] for one in found if label in one.shocks) for label in labels
    }
    named = [(key, field, "scenario") for key, field in model.Scenario.fields.items()]
    named += [(label, field, "shocks") for label, field in fields.items()]
    for (name, field, what), one in itertools.product(named, found):
        group = getattr(one, what)
        array = getattr(group, name) if what == "scenario" else group.get(name, known[name])
        if np.ndim(array) > len(field.shape) + 1:
            raise ValueError(
                f"{model.name}: {name!r} has a batch axis; scenarios are crossed instead."
            )
    if len({jax.tree.leaves(one.scenario)[0].shape[0] for one in found if one.scenario.fields}) > 1:
        raise ValueError(f"{model.name}: the scenarios that are crossed have different horizons.")

    def shock(label: str) -> Source:
        # A scenario that does not shock a parameter multiplies it by 1, or adds 0.
        neutral = np.full_like(known[label], model.split_shock(label)[1] == "multiply")
        return stacked(lambda one: one.shocks.get(label, neutral))

    keys = model.Scenario.fields
    scenario = {k: stacked(lambda one, k=k: getattr(one.scenario, k)) for k in keys}
    return sources._replace(
        scenario=sources.scenario.replace(**scenario),
        shocks={label: shock(label) for label in labels},
    )


def _on_host(leaf: Any) -> tuple[np.ndarray, str | None]:
    """As NumPy, whose rows are taken without compiling anything; a key as its numbers and its kind."""
    if isinstance(leaf, jax.core.Tracer):
        raise TypeError(
            "A sweep is no part of another program: within jax.jit, jax.grad or jax.vmap, use simulate, "
            "which takes batches, too."
        )
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf)), str(jax.random.key_impl(leaf))
    return np.asarray(leaf), None
