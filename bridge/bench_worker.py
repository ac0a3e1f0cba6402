"""The process of `macrostat bench`'s torch backends: `python -m bridge.bench_worker torch-eager`.

The model is traced once, and each of its steps becomes straight torch code (a graph of torch.fx): no
interpreter stands between torch and its operations. The loop over the periods is Python's. torch
differentiates by itself; the compiled form compiles the step.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import torch

from macrostat_jax.bench import _protocol
from macrostat_jax.bench._cases import Case
from macrostat_jax.bench._protocol import Refused, repeat
from macrostat_jax.bench._subject import Subject
from macrostat_jax.bench.worker import SQUARE, STREAM, EngineBackend, program_of, versions
from macrostat_jax.causality import _open, _same_rank
from macrostat_jax.engines._evaluate import CALLS

from ._torch_engine import Torch

PATIENCE = 60.0
"""Seconds of a call that is known beforehand to take longer are not waited for."""


class Stepped(Torch):
    """The torch engine with each scan's body as straight torch code.

    Args:
        compiled: whether torch.compile compiles the bodies.
    """

    def __init__(self, *, compiled: bool) -> None:
        super().__init__()
        self.compiled = compiled
        self.interpreted: str | None = None
        self.seconds = 0.0
        self._bodies: dict[int, tuple[Any, Callable[..., Any]]] = {}

    def _body(self, program: Any) -> Callable[..., Any]:
        if id(program) not in self._bodies:
            start = time.perf_counter()
            self._bodies[id(program)] = program, self._straight(program)
            self.seconds += time.perf_counter() - start
        return self._bodies[id(program)][1]

    def _straight(self, program: Any) -> Callable[..., Any]:
        from torch.fx.experimental.proxy_tensor import make_fx

        def body(*values: torch.Tensor) -> list[torch.Tensor]:
            return self._present(self._called(program, values))

        if loops(
            program
        ):  # unrolled, it would be as long as the loop: only the loop's body is straight
            return body
        kinds: list[Any] = [atom.aval for atom in _open(program).invars]
        example = [self.asarray(np.ones(kind.shape, kind.dtype)) for kind in kinds]
        try:
            graph = make_fx(body)(*example)
        except Exception as error:  # whatever the step does that a straight program cannot
            if self.compiled:
                raise Refused(f"the step is no straight program: {_protocol.said(error)}") from None
            self.interpreted = _protocol.said(error)
            return body
        return torch.compile(graph, dynamic=False) if self.compiled else graph

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
        for t in (
            reversed(range(params["length"])) if params["reverse"] else range(params["length"])
        ):
            out = body(*consts, *carry, *(path[t] for path in paths))
            carry = list(out[:carries])
            rows.append(out[carries:])
        if params["reverse"]:
            rows.reverse()
        return [*carry, *(torch.stack(column) for column in zip(*rows, strict=True))]


def loops(program: Any) -> bool:
    """Whether a program has a loop of its own."""
    return any(
        equation.primitive.name == "scan"
        or (
            (name := CALLS.get(equation.primitive.name)) is not None
            and loops(equation.params[name])
        )
        for equation in _open(program).eqns
    )


class TorchBackend(EngineBackend):
    """torch on the CPU, eager or compiled step by step."""

    engine: Stepped

    def hello(self) -> dict[str, Any]:
        return {
            **super().hello(),
            "versions": versions("macrostat-jax", "torch", "numpy", "jax"),
            "threads": torch.get_num_threads(),
        }

    def limits(self) -> dict[str, Any]:
        x = torch.ones(STREAM, dtype=torch.float64)
        into = torch.empty_like(x)
        a = torch.ones(SQUARE, SQUARE, dtype=torch.float64)
        return {
            "bandwidth": 16 * STREAM / repeat(lambda: torch.add(x, 1, out=into)),
            "rate": 2 * SQUARE**3 / repeat(lambda: a @ a),
        }

    def prepare(self, case: dict[str, Any]) -> dict[str, Any]:
        compiled = self.name == "torch-compile"
        scenario = Case.of(case).scenario
        if compiled and scenario in ("jvp", "jacobian-forward", "hvp"):
            raise Refused(
                "within torch.func torch runs a compiled step uncompiled: no forward mode"
            )
        torch._dynamo.reset()
        self.engine = Stepped(compiled=compiled)
        found = super().prepare(case)
        if self.engine.interpreted:
            found["note"] = f"interpreted step by step: {self.engine.interpreted}"
        return found

    def plan(self, subject: Subject) -> tuple[Callable[[], Any], Any, str]:
        scenario = subject.case.scenario
        function = {"gradient": subject.loss, "hvp": subject.loss, "sweep": subject.sweep}
        program = program_of(subject, function.get(scenario, subject.path))
        x = torch.tensor(subject.points if scenario == "sweep" else subject.x)
        self._weights = [torch.from_numpy(w) for w in subject.weights]
        self._direction = torch.from_numpy(subject.direction)
        with torch.no_grad():
            self.engine.run(program, x)  # makes the bodies, outside of torch.func's transforms
        call = getattr(self, "_" + scenario.replace("-", "_"))
        run = self._runner(program)
        return lambda: call(run, x, subject), program, "its own"

    def _runner(self, program: Any) -> Callable[[torch.Tensor], list[torch.Tensor]]:
        return lambda x: self.engine.run(program, x)

    def _simulate(self, run: Any, x: torch.Tensor, subject: Subject) -> Any:
        with torch.no_grad():
            return run(x)

    _sweep = _simulate

    def _gradient(self, run: Any, x: torch.Tensor, subject: Subject) -> Any:
        leaf = x.clone().requires_grad_()
        loss = run(leaf)[0]
        return torch.autograd.grad(loss, leaf)[0] if loss.requires_grad else torch.zeros_like(x)

    def _jvp(self, run: Any, x: torch.Tensor, subject: Subject) -> Any:
        found = torch.func.jvp(lambda x: tuple(run(x)), (x,), (self._direction,))
        return found[1]

    def _vjp(self, run: Any, x: torch.Tensor, subject: Subject) -> Any:
        leaf = x.clone().requires_grad_()
        total = [
            pair for pair in zip(run(leaf), self._weights, strict=True) if pair[0].requires_grad
        ]
        if not total:  # no parameter moves the path
            return torch.zeros_like(x)
        outputs, weights = zip(*total, strict=True)
        return torch.autograd.grad(outputs, leaf, weights)[0]

    def _jacobian_forward(self, run: Any, x: torch.Tensor, subject: Subject) -> Any:
        return torch.func.jacfwd(lambda x: tuple(run(x)))(x)

    def _jacobian_reverse(self, run: Any, x: torch.Tensor, subject: Subject) -> Any:
        if not self.engine.compiled:
            return torch.func.jacrev(lambda x: tuple(run(x)))(x)
        # The backward pass of a compiled step cannot be batched: one pass per number.
        leaf = x.clone().requires_grad_()
        paths = run(leaf)

        def row(number: torch.Tensor) -> torch.Tensor:
            if not number.requires_grad:
                return torch.zeros_like(x)
            return torch.autograd.grad(number, leaf, retain_graph=True)[0]

        longest = max(paths, key=lambda y: y.requires_grad).reshape(-1)[-1]
        row(longest)  # the first one compiles
        seconds = _protocol.clock(lambda: row(longest)) * subject.outputs
        if seconds > PATIENCE:
            raise Refused(f"{subject.outputs:,} backward passes would take {seconds:.0f} s")
        blocks = [torch.stack([row(number) for number in y.reshape(-1)]) for y in paths]
        return [b.reshape(*y.shape, -1) for b, y in zip(blocks, paths, strict=True)]

    def _hvp(self, run: Any, x: torch.Tensor, subject: Subject) -> Any:
        slope = torch.func.grad(lambda x: run(x)[0])
        return torch.func.jvp(slope, (x,), (self._direction,))[1]

    def result(self, file: str) -> dict[str, Any]:
        assert self._call is not None
        found = self._call()
        arrays = found if isinstance(found, torch.Tensor) else list(found)
        plain = jax.tree.map(lambda y: y.detach().numpy(), arrays)
        np.savez(file, **self.subject.named(plain))  # pyright: ignore[reportArgumentType]
        return {}


if __name__ == "__main__":
    _protocol.serve(TorchBackend(sys.argv[1]))
