"""The torch engine with every period as straight torch code: no interpreter between the operations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from macrostat_jax.causality import _open, _same_rank
from macrostat_jax.engines import UnsupportedOperation
from macrostat_jax.engines._evaluate import CALLS

from ._torch_engine import Torch


class Straight(Torch):
    """The torch engine with the body of each scan as a graph of torch.fx, which torch runs by itself.

    Python's is the loop over the periods alone. The graph is of the operations that torch dispatches
    to: autograd, torch.func and torch.vmap go through it as through any torch code. Where a body
    branches on values, all branches are computed and one is chosen, as JAX does in a batch; one that
    has a loop of its own is interpreted instead.

    Args:
        device: where constants are put; tensors that are handed in stay where they are.
        finish: what is done with each graph, such as `torch.compile`; default: nothing.

    Attributes:
        interpreted: why a body is interpreted, of the last such; None where all are straight.
        seconds: that making the graphs took.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        finish: Callable[[torch.fx.GraphModule], Callable[..., Any]] | None = None,
    ) -> None:
        super().__init__(device)
        self.finish = finish
        self.interpreted: str | None = None
        self.seconds = 0.0
        self._bodies: dict[int, tuple[Any, Callable[..., Any]]] = {}
        self._tracing = False

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickle: graphs are of programs that stay behind."""
        return {**self.__dict__, "_bodies": {}}

    def prepare(self, program: Any) -> None:
        """Makes the graphs of a program's scans: outside of torch.func's transforms, where none can be."""
        for equation in _open(program).eqns:
            name = equation.primitive.name
            if name == "scan":
                self._body(equation.params["jaxpr"])
            elif name in CALLS:
                self.prepare(equation.params[CALLS[name]])

    def _body(self, program: Any) -> Callable[..., Any]:
        if id(program) not in self._bodies:
            start = time.perf_counter()
            self._bodies[id(program)] = program, self._straight(program)
            self.seconds += time.perf_counter() - start
        return self._bodies[id(program)][1]

    def _straight(self, program: Any) -> Callable[..., Any]:
        def body(*values: torch.Tensor) -> list[torch.Tensor]:
            return self._present(self._called(program, values))

        if loops := _loops(program):
            # Unrolled, it would be as long as the loop: only the loop's own body is straight.
            self.prepare(program)
            if "while" in loops:
                self.interpreted = "it has a loop that ends when its values say so"
            return body
        kinds: list[Any] = [atom.aval for atom in _open(program).invars]
        example = [self.asarray(np.ones(kind.shape, kind.dtype)) for kind in kinds]
        self._tracing = True
        try:
            graph = make_fx(body)(*example)
        except (
            UnsupportedOperation,
            RuntimeError,
        ) as error:  # interpreted, it says so again or runs
            self.interpreted = str(error).partition("\n")[0]
            return body
        finally:
            self._tracing = False
        for node in graph.graph.nodes:
            if (
                node.target is torch.ops.aten.lift_fresh_copy.default
            ):  # nothing writes into constants
                node.replace_all_uses_with(node.args[0])
        graph.graph.eliminate_dead_code()
        graph.recompile()
        return graph if self.finish is None else self.finish(graph)

    def numpy(self, value: torch.Tensor) -> np.ndarray:
        if self._tracing:  # the example's numbers would be in the graph for good
            raise UnsupportedOperation("it branches on values, which no straight code does")
        return super().numpy(value)

    def cond(self, which: Any, *given: Any, branches: Sequence[Any], **params: Any) -> Any:
        if not self._tracing:
            return super().cond(which, *given, branches=branches, **params)
        # As JAX does in a batch: all branches are computed, and one is chosen, number by number.
        each = [self.run(branch, *given) for branch in branches]
        at = torch.clamp(which, 0, len(branches) - 1)
        return [self.select_n(at, *results) for results in zip(*each, strict=True)]

    def _scan(self, equation: Any, given: list[Any]) -> list[Any]:
        params = equation.params
        program = params["jaxpr"]
        body = self._body(program)
        opened = _open(program)
        carries = _same_rank(equation.outvars, opened.outvars)
        first = _same_rank(equation.invars, opened.invars) - carries
        consts, carry = given[:first], given[first : first + carries]
        paths = [path.unbind(0) for path in given[first + carries :]]
        rows: list[Sequence[torch.Tensor]] = []
        periods = range(params["length"])
        for t in reversed(periods) if params["reverse"] else periods:
            out = body(*consts, *carry, *(path[t] for path in paths))
            carry = list(out[:carries])
            rows.append(out[carries:])
        if params["reverse"]:
            rows.reverse()
        return [*carry, *self._stacked(rows, equation.outvars[carries:])]


def _loops(program: Any) -> set[str]:
    """The kinds of loop that a program has of its own."""
    found: set[str] = set()
    for equation in _open(program).eqns:
        name = equation.primitive.name
        if name in ("scan", "while"):
            found.add(name)
        elif name in CALLS:
            found |= _loops(equation.params[CALLS[name]])
    return found
