"""The process of a backend of JAX, NumPy or dual numbers: `python -m macrostat_jax.bench.worker NAME`."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engines import Dual, Engine, Number, NumPy
from ._cases import Case
from ._protocol import Refused, repeat, serve
from ._subject import Count, Subject

PLATFORMS = {"jax-cpu": "cpu", "jax-gpu": "gpu", "jax-tpu": "tpu"}
STREAM, SQUARE, TURNS, LARGE = 1 << 23, 1024, 8, 4
"""Sizes of the measurements of the machine's limits: elements of a vector, rows of a matrix, passes; and
by how much both are larger on a GPU or TPU."""


def versions(*packages: str) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def to_file(file: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    np.savez(file, **{key: np.asarray(value) for key, value in arrays.items()})  # pyright: ignore
    return {}


class JaxBackend:
    """JAX on one kind of device."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._call: Callable[[], Any] | None = None
        self.device_bytes: int | None = None

    def hello(self) -> dict[str, Any]:
        kind = PLATFORMS[self.name]
        try:
            self.device = jax.devices(kind)[0]
        except (RuntimeError, AssertionError) as error:
            there = ", ".join(sorted({d.platform for d in jax.devices()}))
            text = str(error).partition("\n")[0]
            missing = f"JAX finds no {kind.upper()} here, only: {there}"
            absent = "Unknown backend" in text or "libtpu.so" in text
            raise Refused(missing if absent else f"{missing} ({text})") from None
        jax.config.update("jax_default_device", self.device)
        jax.config.update("jax_enable_x64", kind != "tpu")
        return {
            "versions": versions("macrostat-jax", "jax", "jaxlib", "numpy"),
            "device": self.device.device_kind,
        }

    def limits(self) -> dict[str, Any]:
        large = (
            1 if self.device.platform == "cpu" else LARGE
        )  # or the call would be most of the time
        x = jnp.ones(large * STREAM)
        a = jnp.ones((large * SQUARE, large * SQUARE))
        # In place, again and again: a new array each time would measure the operating system's pages.
        copy = jax.jit(lambda x: jax.lax.fori_loop(0, TURNS, lambda _, x: x + 1, x))
        product = jax.jit(jnp.matmul)
        return {
            "bandwidth": 2 * TURNS * x.nbytes / repeat(lambda: jax.block_until_ready(copy(x))),
            "rate": 2 * len(a) ** 3 / repeat(lambda: jax.block_until_ready(product(a, a))),
        }

    def prepare(self, case: dict[str, Any]) -> dict[str, Any]:
        subject = self.subject = Subject(Case.of(case))
        function, arguments = subject.function()
        arguments = jax.device_put(arguments, self.device)
        start = time.perf_counter()
        traced = jax.jit(function).trace(*arguments)
        lowered = traced.lower()
        begun = time.perf_counter()
        compiled = lowered.compile()
        done = time.perf_counter()
        count = Count(traced.jaxpr, subject.case.periods)
        self._call = lambda: jax.block_until_ready(compiled(*arguments))
        memory = _memory(compiled)
        if self.device.platform != "cpu":  # whose memory is not the process's
            self.device_bytes = memory.get("program_bytes")
        return {
            **subject.facts(),
            "trace": begun - start,
            "compile": done - begun,
            "passes": count.passes,
            "operations": count.operations if count.bounded else None,
            **memory,
        }

    def call(self) -> None:
        assert self._call is not None
        self._call()

    def result(self, file: str) -> dict[str, Any]:
        assert self._call is not None
        return to_file(file, self.subject.named(self._call()))

    def reference(self, case: dict[str, Any], file: str) -> dict[str, Any]:
        subject = Subject(Case.of(case))
        return to_file(file, subject.named(subject.reference()))

    def drop(self) -> None:
        self._call = None
        jax.clear_caches()


def _memory(compiled: Any) -> dict[str, Any]:
    """XLA's own account of a program, in bytes: what moves in and out, and what it needs beside."""
    try:
        analysis: Any = compiled.memory_analysis()
    except (NotImplementedError, RuntimeError):
        analysis = None
    if analysis is None:
        return {}
    moved = analysis.argument_size_in_bytes + analysis.output_size_in_bytes
    return {"traffic": moved, "program_bytes": moved + analysis.temp_size_in_bytes}


class EngineBackend:
    """An engine that runs the program which JAX traces; the arithmetic is its own."""

    engine: Engine

    def __init__(self, name: str) -> None:
        self.name = name
        self._call: Callable[[], Any] | None = None

    def hello(self) -> dict[str, Any]:
        jax.config.update("jax_enable_x64", True)
        return {
            "versions": versions("macrostat-jax", "numpy", "jax"),
            "device": jax.devices()[0].device_kind,
        }

    def limits(self) -> dict[str, Any]:
        x, into = np.ones(STREAM), np.ones(STREAM)
        a = np.ones((SQUARE, SQUARE))
        return {
            "bandwidth": 2 * x.nbytes / repeat(lambda: np.add(x, 1, out=into)),
            "rate": 2 * SQUARE**3 / repeat(lambda: a @ a),
        }

    def prepare(self, case: dict[str, Any]) -> dict[str, Any]:
        subject = self.subject = Subject(Case.of(case))
        if subject.draws:
            raise Refused(f"{subject.model.name} draws within its step: only JAX can run it")
        start = time.perf_counter()
        self._call, program, way = self.plan(subject)
        found = {**subject.facts(way), "trace": time.perf_counter() - start, "compile": 0.0}
        count = Count(program, subject.case.periods)
        found["passes"] = count.passes * (found["runs"]["model"] if way == "forward" else 1)
        if subject.case.order == 0:
            moved = [*program.jaxpr.invars, *program.jaxpr.outvars]
            found["operations"] = count.operations if count.bounded else None
            found["traffic"] = 8 * sum(int(np.prod(v.aval.shape)) for v in moved)
        return found

    def plan(self, subject: Subject) -> tuple[Callable[[], Any], Any, str]:
        """The call, the program that it runs, and its way (see `runs`)."""
        raise NotImplementedError

    def call(self) -> None:
        assert self._call is not None
        self._call()

    def result(self, file: str) -> dict[str, Any]:
        assert self._call is not None
        return to_file(file, self.subject.named(self._call()))

    def reference(self, case: dict[str, Any], file: str) -> dict[str, Any]:
        raise Refused("the reference is JAX's")

    def drop(self) -> None:
        self._call = None
        jax.clear_caches()


def program_of(subject: Subject, function: Callable[..., Any], *more: Any) -> Any:
    """A function of the parameters as a program; everything else is constant in it."""
    at = subject.points if subject.case.scenario == "sweep" else subject.x
    return jax.make_jaxpr(lambda x: function(x, subject.rest, *more))(at)


class NumPyBackend(EngineBackend):
    engine = NumPy()

    def plan(self, subject: Subject) -> tuple[Callable[[], Any], Any, str]:
        if subject.case.order:
            raise Refused("NumPy has no derivatives (dual numbers in NumPy: --backend dual)")
        swept = subject.case.scenario == "sweep"
        at = subject.points if swept else subject.x
        program = program_of(subject, subject.sweep if swept else subject.path)
        return lambda: self.engine.run(program, at), program, "its own"


class DualBackend(EngineBackend):
    engine = Dual()

    def plan(self, subject: Subject) -> tuple[Callable[[], Any], Any, str]:
        scenario, x = subject.case.scenario, subject.x
        if scenario in ("vjp", "jacobian-reverse"):
            raise Refused("dual numbers go forward only")
        if scenario == "hvp":
            raise Refused("these dual numbers carry first derivatives only")
        function = {"sweep": subject.sweep, "gradient": subject.loss}.get(scenario, subject.path)
        program = program_of(subject, function)
        if subject.case.order == 0:
            at = subject.points if scenario == "sweep" else x
            return lambda: self._values(program, Number(at)), program, "its own"
        if scenario == "jvp":
            one = Number(x, subject.direction)
            return lambda: self._slopes(program, one), program, "forward"
        units = [Number(x, row) for row in np.eye(x.size)]
        if scenario == "gradient":
            return (
                lambda: np.array([self._slopes(program, unit)[0] for unit in units]),
                program,
                "forward",
            )
        return lambda: self._columns(program, units), program, "forward"

    def _values(self, program: Any, x: Number) -> list[np.ndarray]:
        return [out.value for out in self.engine.run(program, x)]

    def _slopes(self, program: Any, x: Number) -> list[np.ndarray]:
        found = self.engine.run(program, x)
        return [np.zeros(out.value.shape) if out.dot is None else out.dot for out in found]

    def _columns(self, program: Any, units: list[Number]) -> list[np.ndarray]:
        columns = [self._slopes(program, unit) for unit in units]
        return [np.stack(one, axis=-1) for one in zip(*columns, strict=True)]


def main(name: str) -> None:
    kinds: dict[str, Callable[[str], Any]] = {"numpy": NumPyBackend, "dual": DualBackend}
    serve(kinds.get(name, JaxBackend)(name))


if __name__ == "__main__":
    main(sys.argv[1])
