"""The program of a sweep: what is computed for every block of runs, on one device or several."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from .. import _compile
from .._allocator import keep_freed_memory
from .._inputs import Inputs, Plan
from .._trajectory import trajectory
from . import _transport
from ._chunks import in_chunks
from ._runs import Source

RUNS = "runs"


class Compiled(NamedTuple):
    """What a compiled block is specialised to."""

    plan: Plan
    keep: Any
    devices: int = 1


@dataclasses.dataclass(eq=False)
class Program:
    """Simulates the runs of a design, whichever of them it is given.

    Attributes:
        plan, keep: what is simulated, and kept of a run; None and a plan that records keep paths.
        form: `Inputs` with numbers in place of arrays.
        shared: position in `form` -> what runs in all chunks draw on.
        block: how many runs a device simulates at once. Runs b * block to (b + 1) * block - 1 of a chunk
            are always computed together, and so to the same bits wherever the chunk is computed.
        x64: whether JAX computes in float64.
        frugal: give the memory of a block back before the next one, though that takes time.
    """

    plan: Plan
    keep: Any
    form: Any
    shared: Mapping[int, Source]
    block: int
    x64: bool
    frugal: bool = False
    versions: Mapping[str, str] = dataclasses.field(default_factory=lambda: versions())

    @property
    def axis(self) -> int:
        """Where the runs are in what is kept: whole paths have time first."""
        return 1 if self.keep is None else 0

    def __call__(self, start: int, stop: int, own: Mapping[int, Source]) -> Any:
        """What is kept of runs start to stop - 1, as NumPy arrays with the runs on `axis`."""
        return self.gather(start, stop, own, lambda first, last, arrays: None)

    def gather(
        self,
        start: int,
        stop: int,
        own: Mapping[int, Source],
        tell: Callable[[int, int, list[np.ndarray]], Any],
    ) -> Any:
        """The same; `tell(first, last, arrays)` is called when these runs of the arrays are there.

        A thread of its own puts a block where it belongs while the next one is computed: on a CPU, that
        takes as long as computing it where a sweep keeps all paths.
        """
        arrays: list[np.ndarray] = []
        form: Any = None
        copied: tuple[int, int, Future] | None = None
        if stop - start <= self.block * self.devices(stop - start):  # no next one: no thread
            ((_, _, found),) = self.blocks(start, stop, own)
            parts, form = jax.tree.flatten(found)
            arrays = [whole(part, self.axis, stop - start) for part in parts]
            _placed(arrays, parts, self.axis, 0, stop - start)
            tell(0, stop - start, arrays)
            return form.unflatten(arrays)
        if not self.frugal:
            keep_freed_memory()
        with ThreadPoolExecutor(1) as copier:
            for first, last, found in self.blocks(start, stop, own):
                parts, form = jax.tree.flatten(found)
                arrays = arrays or [whole(part, self.axis, stop - start) for part in parts]
                if copied is not None:
                    copied[2].result()
                    tell(*copied[:2], arrays)
                at = first - start, last - start
                copied = *at, copier.submit(_placed, arrays, parts, self.axis, *at)
                # Or three blocks would be in memory while the next one is computed.
                del found, parts
            if copied is not None:
                copied[2].result()
                tell(*copied[:2], arrays)
        return form.unflatten(arrays)

    def blocks(
        self, start: int, stop: int, own: Mapping[int, Source]
    ) -> Iterator[tuple[int, int, Any]]:
        """Yields `(first, last, what is kept of them)`, as many blocks at a time as there are devices."""
        devices = self.devices(stop - start)
        sources = [source for _, source in sorted({**self.shared, **own}.items())]
        kept = Compiled(self.plan, self.keep, devices)

        def run(rows: np.ndarray) -> Any:
            with jax.enable_x64(self.x64):
                inputs = self.inputs(sources, rows + start)
                return _compile.call(_run, kept, spread(inputs, self.plan, devices))

        for a, b, found in in_chunks(run, stop - start, self.block * devices, ahead=False):
            yield start + a, start + b, found

    def inputs(self, sources: list[Source], rows: np.ndarray) -> Inputs:
        """The inputs of these runs, a block of them."""
        structure = jax.tree.structure(self.form)
        return structure.unflatten([_taken(source, rows) for source in sources])

    def devices(self, count: int) -> int:
        """Over how many devices `count` runs are spread."""
        if _compile.setting("jax_default_device") is not None:  # the user has chosen one
            return 1
        return max(1, min(len(jax.local_devices()), math.ceil(count / self.block)))

    def lower(self, sources: list[Source], devices: int) -> Any:
        """One block on each device, lowered but not compiled."""
        rows = np.zeros(self.block * devices, int)
        with jax.enable_x64(self.x64):
            inputs = self.inputs(sources, rows)
            kept = Compiled(self.plan, self.keep, devices)
            return _run.lower(kept, spread(inputs, self.plan, devices))

    def shapes(self, sources: list[Source]) -> Any:
        """Shapes and dtypes of what is kept of one block; what is wrong with `keep` shows here."""
        rows = np.zeros(self.block, int)
        kept = Compiled(self.plan, self.keep)
        with jax.enable_x64(self.x64):
            return _run.eval_shape(kept, self.inputs(sources, rows))

    @functools.cached_property
    def packed(self) -> tuple[str, bytes]:
        """As it travels to other processes: a digest, and the content.

        Raises:
            TypeError: something that cannot be sent; with what to do about it.
        """
        fields = [getattr(self, field.name) for field in dataclasses.fields(self)]
        content = _transport.dumps(Program, *fields)
        return _transport.digest(content), content

    def __reduce__(self) -> Any:
        return _transport.load, self.packed


@functools.cache
def versions() -> dict[str, str]:
    """What must be the same wherever chunks of one sweep are computed."""
    return {name: importlib.metadata.version(name) for name in ("macrostat-jax", "jax")}


def _taken(source: Source, rows: np.ndarray) -> Any:
    array = source.take(rows)
    if source.impl is None:
        return array
    return jax.random.wrap_key_data(jnp.asarray(array), impl=source.impl)


@functools.partial(jax.jit, static_argnums=0)
def _run(kept: Compiled, inputs: Inputs) -> Any:
    if kept.devices == 1:
        return _kept(kept, inputs)
    # Every device runs the program of a single one on a block of its own. Left to the partitioner, it
    # would be another program, whose results may differ in the last digit.
    mesh = _mesh(kept.devices)
    specs = jax.tree.unflatten(jax.tree.structure(inputs), _specs(kept.plan))
    out = PartitionSpec(RUNS) if kept.keep is not None else PartitionSpec(None, RUNS)
    local = functools.partial(_kept, kept)
    return jax.shard_map(local, mesh=mesh, in_specs=(specs,), out_specs=out, check_vma=False)(
        inputs
    )


def _kept(kept: Compiled, inputs: Inputs) -> Any:
    path = trajectory(kept.plan, inputs)
    if kept.keep is None:
        return path
    found = jax.vmap(kept.keep, in_axes=1)(path)
    if not jax.tree.leaves(found):
        raise ValueError("keep returns no array: of every run, something must be kept.")
    return found


def spread(inputs: Inputs, plan: Plan, devices: int) -> Inputs:
    """Inputs on the devices that need them: a block of runs on each."""
    if devices == 1:
        return inputs
    leaves, structure = jax.tree.flatten(inputs)
    mesh = _mesh(devices)
    pairs = zip(leaves, _specs(plan), strict=True)
    return structure.unflatten([jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in pairs])


def _specs(plan: Plan) -> list[PartitionSpec]:
    assert plan.batch is not None
    return [PartitionSpec() if axis is None else PartitionSpec(RUNS) for axis in plan.batch]


def _mesh(devices: int) -> Any:
    return jax.sharding.Mesh(np.array(jax.local_devices()[:devices]), (RUNS,))


def whole(part: Any, axis: int, count: int) -> np.ndarray:
    """An array for all runs, of which `part` holds some."""
    return np.empty((*part.shape[:axis], count, *part.shape[axis + 1 :]), part.dtype)


def place(target: np.ndarray, part: Any, axis: int, start: int, stop: int) -> None:
    """Puts runs start to stop - 1 where they belong; what `part` holds beyond them is padding."""
    at = (slice(None),) * axis
    target[*at, start:stop] = np.asarray(part)[*at, : stop - start]


def _placed(targets: list[np.ndarray], parts: list[Any], axis: int, start: int, stop: int) -> None:
    for target, part in zip(targets, parts, strict=True):
        place(target, part, axis, start, stop)


def bytes_of(shapes: Any) -> int:
    """The memory of arrays of these shapes."""
    return sum(math.prod(x.shape) * jnp.dtype(x.dtype).itemsize for x in jax.tree.leaves(shapes))
