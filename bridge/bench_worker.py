"""The process of `macrostat bench`'s torch backends: `python -m bridge.bench_worker torch-eager`.

The model is traced once, and each of its steps becomes straight torch code (a graph of torch.fx): no
interpreter stands between torch and its operations. The loop over the periods is Python's. torch
differentiates by itself; the compiled form compiles the step.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

from macrostat_jax.bench import _protocol
from macrostat_jax.bench._cases import Case
from macrostat_jax.bench._protocol import Refused, repeat
from macrostat_jax.bench._subject import Subject
from macrostat_jax.bench.worker import SQUARE, STREAM, EngineBackend, program_of, versions

from ._torch_straight import Straight

PATIENCE = 60.0
"""Seconds of a call that is known beforehand to take longer are not waited for."""


def _compiled(graph: torch.fx.GraphModule) -> Callable[..., Any]:
    return torch.compile(graph, dynamic=False)


class TorchBackend(EngineBackend):
    """torch on the CPU, eager or compiled step by step."""

    engine: Straight

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
        self.compiled = compiled
        self.engine = Straight(finish=_compiled if compiled else None)
        found = super().prepare(case)
        if self.engine.interpreted:
            found["note"] = f"each step is interpreted: {self.engine.interpreted}"
        return found

    def plan(self, subject: Subject) -> tuple[Callable[[], Any], Any, str]:
        scenario = subject.case.scenario
        function = {"gradient": subject.loss, "hvp": subject.loss, "sweep": subject.sweep}
        program = program_of(subject, function.get(scenario, subject.path))
        self.engine.prepare(program)
        if self.compiled and self.engine.interpreted:
            raise Refused(f"the step is no straight program: {self.engine.interpreted}")
        x = torch.tensor(subject.points if scenario == "sweep" else subject.x)
        self._weights = [torch.from_numpy(w) for w in subject.weights]
        self._direction = torch.from_numpy(subject.direction)
        call = getattr(self, "_" + scenario.replace("-", "_"))
        run = functools.partial(self.engine.run, program)
        return lambda: call(run, x, subject), program, "its own"

    def call(self) -> None:
        try:
            super().call()
        except Exception as error:
            if "C++ compiler" in str(error):
                raise Refused("torch.compile needs a C++ compiler, and finds none") from None
            raise

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
        if not self.compiled:
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
