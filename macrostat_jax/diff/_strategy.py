"""How to compute a derivative over a long run: which mode, in how many pieces, keeping how much.

Forward mode costs a little more with every input and needs the memory of one state for each that it
follows at a time. Reverse mode costs the same whatever the inputs, and keeps a state per period, or,
with checkpoints, a few per level of nesting and one more simulation for each level.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from .._inputs import Inputs
from .._model import Model
from ._labelled import Jacobian
from ._operator import chunks
from ._operators import (
    _columns,
    _named,
    _rows,
    _shapes,
    _single,
    linear_operator,
    one_number,
)
from ._period import run_dtype
from ._recursion import read_inputs
from ._target import Of, Target, Wrt, field_of

NAMES = ("auto", "forward", "reverse", "sqrt", "recursive")
FORWARD, PER_INPUT = 1.2, 0.08
REVERSE, PER_OUTPUT = 1.5, 0.12
PER_LEVEL = 0.5
"""Costs in simulations, measured on CPUs with 14 to 82 variables (benchmarks/sequence_space.py)."""
BRANCHES = 32
"""Checkpoints nested recursively: about so many at every level."""


@dataclasses.dataclass(frozen=True)
class Strategy:
    """One way to a derivative: print it, or pass it to `jacobian` or `gradient`. Made by `choose_strategy`.

    Attributes:
        mode: `"forward"` or `"reverse"`.
        checkpoint: levels of checkpoints in reverse mode; 1 keeps every state, 2 about 2 sqrt(T).
        chunk: how many inputs (forward) or outputs (reverse) are followed at a time.
        work: what it costs, in simulations, by the estimate that chose it.
        memory: temporary memory beside inputs and outputs, in bytes, by XLA's own account of the compiled
            program; None where nothing asked for it.
        why: a sentence.
    """

    mode: str
    checkpoint: int = 1
    chunk: int | None = None
    work: float = math.nan
    memory: int | None = None
    why: str = ""

    @property
    def name(self) -> str:
        if self.mode == "forward":
            return "forward" if self.chunk is None else f"forward, {self.chunk} inputs at a time"
        kept = {1: "", 2: " with square-root checkpoints"}.get(
            self.checkpoint, f" with {self.checkpoint} levels of checkpoints"
        )
        chunk = "" if self.chunk is None else f", {self.chunk} outputs at a time"
        return f"reverse{kept}{chunk}"

    def __str__(self) -> str:
        return f"{self.name}: {self.why}" if self.why else self.name


def choose_strategy(
    model: Model,
    of: Of = None,
    *,
    wrt: Wrt = "params",
    strategy: str = "auto",
    memory: float | None = None,
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
) -> Strategy:
    """The cheapest way to a derivative that fits into memory, and why.

    Args:
        of, wrt, others: as in `jacobian`; a loss is a function to a number. For a loss of the final state
            alone, `final(loss)` spares the memory of the path.
        strategy: `"auto"`; or one of `"forward"`, `"reverse"`, `"sqrt"` and `"recursive"` (reverse with
            checkpoints in two levels, or in as many as hold some 32 each): it is then only fitted to the
            memory by smaller pieces.
        memory: a limit in bytes to the temporary memory, beside inputs and outputs. It is compared with
            XLA's account of the compiled program, so candidates are compiled until one fits.

    Returns:
        A `Strategy`. Without a limit nothing is compiled.

    Raises:
        ValueError: an unknown strategy, or no candidate fits: with the least that would do.
    """
    if strategy not in NAMES:
        raise ValueError(f"Unknown strategy {strategy!r}. There are: {', '.join(NAMES)}.")
    target, inputs = _single(
        model, of, wrt, params, scenario, shocks, initial, periods, key, noise, False
    )
    count = sum(math.prod(np.shape(x)) for x in target.split(inputs).values())
    outputs = sum(math.prod(s.shape) for s in _shapes(target, inputs).values())
    candidates = sorted(
        _candidates(strategy, target, count, outputs), key=lambda one: (one.work, one.checkpoint)
    )
    size = (
        f"{count:,} input{'s' * (count != 1)}, {outputs:,} output{'s' * (outputs != 1)} and "
        f"{target.plan.periods:,} periods"
    )
    if memory is None:
        chosen = candidates[0]
        other = next((one for one in candidates if one.mode != chosen.mode), None)
        against = f", {other.mode} mode some {other.work:.1f}" if other else ""
        why = f"with {size} it takes some {chosen.work:.1f} simulations{against}."
        return dataclasses.replace(chosen, why=why)
    least: Strategy | None = None
    passed: list[str] = []
    for one in candidates:
        if _least_memory(one, target, inputs) > memory:
            passed.append(one.name)
            continue
        used = _measured(one, target, inputs, count, outputs)
        measured = dataclasses.replace(one, memory=used)
        if used <= memory:
            cheaper = f"; cheaper ones need more ({passed[0]})" if passed else ""
            why = (
                f"with {size} it takes some {one.work:.1f} simulations and {_bytes(used)} of the "
                f"{_bytes(memory)} allowed{cheaper}."
            )
            return dataclasses.replace(measured, why=why)
        passed.append(f"{one.name}: {_bytes(used)}")
        if least is None or used < (least.memory or 0):
            least = measured
    if least is None:  # nothing was worth compiling: the smallest of each mode says what is needed
        smallest = {one.mode: one for one in sorted(candidates, key=_frugal)}
        least = min(
            (
                dataclasses.replace(one, memory=_measured(one, target, inputs, count, outputs))
                for one in smallest.values()
            ),
            key=lambda one: one.memory or 0,
        )
    raise ValueError(
        f"{model.name}: no strategy for d{_named(of)} takes {_bytes(memory)} or less with {size}. The "
        f"least is {_bytes(least.memory or 0)}: {least.name}."
    )


def named(strategy: str, periods: int) -> Strategy:
    """The strategy of that name, whole."""
    levels = {"reverse": 1, "sqrt": 2, "recursive": max(3, math.ceil(math.log(periods, BRANCHES)))}
    if strategy == "forward":
        return Strategy("forward")
    return Strategy("reverse", levels[strategy])


def jacobian_by(
    model: Model, of: Of, *, mode: str, checkpoint: bool | int, chunk: int | None, **given: Any
) -> Jacobian:
    """`jacobian` in pieces, or by a strategy; `given` has the arguments of both."""
    chosen = _chosen(model, of, mode, checkpoint, chunk, given)
    operator = linear_operator(model, of, checkpoint=_levels(chosen), **given)
    found = operator.to_jacobian(mode=chosen.mode, chunk=chosen.chunk)
    return dataclasses.replace(found, strategy=chosen)


def gradient_by(
    model: Model, loss: Any, *, checkpoint: bool | int, chunk: int | None, **given: Any
) -> dict[str, jax.Array]:
    """`gradient` by a strategy."""
    chosen = _chosen(model, loss, "auto", checkpoint, chunk, given)
    operator = linear_operator(model, loss, checkpoint=_levels(chosen), **given)
    one_number({block.label: block for block in operator.codomain.blocks})
    row = operator.to_dense(mode=chosen.mode, chunk=chosen.chunk)[0]
    return {label: jnp.asarray(part) for label, part in operator.domain.unpack(row).items()}


def _chosen(
    model: Model,
    of: Of,
    mode: str,
    checkpoint: bool | int,
    chunk: int | None,
    given: dict[str, Any],
) -> Strategy:
    strategy, memory = given.pop("strategy"), given.pop("memory")
    if strategy is None and memory is None:
        levels = max(2, int(checkpoint)) if checkpoint else 1
        return Strategy(mode, levels, chunk)
    if mode != "auto" or checkpoint or chunk is not None:
        raise ValueError(
            "A strategy, or a limit to the memory, decides on mode, checkpoint and chunk: give either it "
            "or these."
        )
    if isinstance(strategy, Strategy):
        if memory is not None:
            raise ValueError("Give the memory to choose_strategy, which made this strategy.")
        return strategy
    return choose_strategy(model, of, strategy=strategy or "auto", memory=memory, **given)


def _levels(one: Strategy) -> bool | int:
    return one.checkpoint if one.checkpoint > 1 else False


def _candidates(strategy: str, target: Target, inputs: int, outputs: int) -> Iterator[Strategy]:
    def pieces(count: int) -> Iterator[int | None]:
        yield None
        width = count
        while width > 1:
            width = -(-width // 4)
            yield width

    def work(base: float, each: float, count: int, chunk: int | None) -> float:
        parts = chunks(count, chunk)
        return len(parts) * (base + each * (parts[0][1] if parts else 0))

    if strategy in ("auto", "forward"):
        for chunk in pieces(inputs):
            yield Strategy("forward", 1, chunk, work(FORWARD, PER_INPUT, inputs, chunk))
    if strategy != "forward":
        periods = target.plan.periods
        deepest = named("recursive", periods).checkpoint if periods > 8 else 1
        levels = (
            range(1, deepest + 1) if strategy == "auto" else (named(strategy, periods).checkpoint,)
        )
        for level in levels:
            for chunk in pieces(outputs):
                cost = work(REVERSE + PER_LEVEL * (level - 1), PER_OUTPUT, outputs, chunk)
                yield Strategy("reverse", level, chunk, cost)


def _frugal(one: Strategy) -> tuple[int, int]:
    """Larger for what needs less memory."""
    return one.checkpoint, -(one.chunk or 1 << 60)


def _least_memory(one: Strategy, target: Target, inputs: Inputs) -> float:
    """What the states alone take, which a program cannot do without: no need to compile it to know."""
    sizes = [
        math.prod(field_of(target.plan.model, read).shape)
        for read in read_inputs(target.plan.model)
    ]
    state = sum(sizes) * np.dtype(run_dtype(inputs)).itemsize
    if one.mode == "forward":
        return state * (one.chunk or 1)
    # A tenth: what a step reads linearly is not kept, and XLA shares buffers.
    return 0.0 if one.checkpoint > 1 else 0.1 * state * target.plan.periods


def _measured(one: Strategy, target: Target, inputs: Inputs, count: int, outputs: int) -> int:
    """The temporary memory of its compiled program, which the on-disk cache keeps for the call to come."""
    function, total = (_columns, count) if one.mode == "forward" else (_rows, outputs)
    target = target._replace(plan=target.plan._replace(checkpoint=_levels(one)))
    directions = jax.ShapeDtypeStruct((min(one.chunk or total, total), total), run_dtype(inputs))
    with _compile.disk_cache():
        compiled = function.lower(target, inputs, directions).compile()
    account = compiled.memory_analysis()
    if account is None:
        raise NotImplementedError("This JAX backend gives no account of a program's memory.")
    return int(account.temp_size_in_bytes)


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"
