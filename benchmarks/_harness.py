"""Processes, environments and reports: what every benchmark does around its measurements."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PEER_VERSION = "0.6.0"
SMALL_LOOPS = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1048576"
"""On jax 0.10 only: XLA compiles loops with buffers up to this size as a whole. jax 0.12 does so by
itself and refuses to start with an option that it does not know."""

_PROBE = """
import importlib.metadata as m, json, platform
found = {"python": platform.python_version()}
for name in ("macrostat", "macrostat-jax", "jax", "jaxlib", "torch", "numpy"):
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps(found))
"""


@dataclasses.dataclass(frozen=True)
class Interpreter:
    """A Python with what is installed in it, and whose package it runs: the peer's or ours."""

    path: str
    versions: dict[str, str] = dataclasses.field(hash=False)
    peer: bool = False

    @property
    def label(self) -> str:
        if self.peer:
            return f"macrostat {self.versions.get('macrostat', PEER_VERSION)}"
        return f"jax {self.versions.get('jax', '?')}"

    @property
    def needs_flag(self) -> bool:
        """jax 0.10, where the user has set no flags of their own."""
        return self.versions.get("jax", "").startswith("0.10.") and "XLA_FLAGS" not in os.environ

    def environment(self, *, small_loops: bool = True, **more: str) -> dict[str, str]:
        """The environment of its processes: ours see this checkout, the peer's only their own."""
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if not self.peer:
            paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
            env["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
            if self.needs_flag and small_loops:
                env["XLA_FLAGS"] = SMALL_LOOPS
        return env | more


def interpreter(path: str, *, peer: bool = False) -> Interpreter:
    found = subprocess.run([path, "-c", _PROBE], capture_output=True, text=True, check=True)
    return Interpreter(path, json.loads(found.stdout), peer)


@dataclasses.dataclass(frozen=True)
class Variant:
    """Our side as a reader may run it: an interpreter, with or without XLA's flag."""

    label: str
    python: Interpreter
    small_loops: bool

    def environment(self, **more: str) -> dict[str, str]:
        return self.python.environment(small_loops=self.small_loops, **more)


def variants(pythons: Iterable[Interpreter]) -> list[Variant]:
    """Each interpreter as the benchmarks set it up and, where that takes a flag, without it too."""
    found = []
    for python in pythons:
        found.append(Variant(python.label, python, True))
        if python.needs_flag:
            found.append(Variant(f"{python.label}, no XLA flag", python, False))
    return found


def peer_interpreter(choice: str | None) -> Interpreter:
    """The published package in an environment of its own, made here the first time.

    `--peer PATH` or `MACROSTAT_PEER=PATH` names a Python that has it already.
    """
    path = choice or os.environ.get("MACROSTAT_PEER")
    if path is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        home = cache / "macrostat-benchmark" / f"peer-{PEER_VERSION}"
        path = str(home / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        if not (home / "complete").exists():
            print(f"Installing macrostat {PEER_VERSION} for comparison into {home} ...", flush=True)
            venv.create(home, with_pip=True, clear=True)
            torch = importlib.metadata.version("torch").partition("+")[0]
            # torch first: the same version as on our side, and pip then leaves it as it is.
            for package in (f"torch=={torch}", f"macrostat=={PEER_VERSION}"):
                subprocess.run([path, "-m", "pip", "install", "--quiet", package], check=True)
            (home / "complete").touch()
    peer = interpreter(path, peer=True)
    if peer.versions.get("macrostat") != PEER_VERSION:
        raise SystemExit(f"{path} has no macrostat {PEER_VERSION}, but {peer.versions}.")
    return peer


def run_worker(
    python: Interpreter,
    env: Mapping[str, str],
    script: str,
    *args: Any,
    timeout: float = 900,
    one_core: bool = False,
) -> dict[str, Any]:
    """One fresh process. Its last line of output is JSON; `wall` is the time of the whole command.

    `one_core` binds it to a single core (Linux): nothing is then handed from one core to another.
    """
    command = [python.path, str(HERE / script), *map(str, args)]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=dict(env),
            cwd=folder,
            timeout=timeout,
            preexec_fn=_bind if one_core else None,
        )
    wall = time.perf_counter() - start
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-12:])
        raise SystemExit(f"{python.label}: {script} {' '.join(map(str, args))} failed:\n{tail}")
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"wall": wall}


def _bind() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def interleave(
    jobs: Mapping[str, Callable[[], dict[str, Any]]], rounds: int, *, warm_up: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Runs all jobs in every round, one process each, in alternating order.

    With `warm_up`, a first round is thrown away: it fills the caches of the file system and Python's.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in jobs}
    for turn in range(-1 if warm_up else 0, rounds):
        names = list(jobs) if turn % 2 == 0 else list(jobs)[::-1]
        for name in names:
            if sys.stderr.isatty():
                print(f"\r\033[Kround {turn + 1} of {rounds}: {name}", end="", file=sys.stderr)
            result = jobs[name]()
            if turn >= 0:
                found[name].append(result)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return found


@dataclasses.dataclass(frozen=True)
class Spread:
    """A figure over several processes: its median and its extremes."""

    median: float
    low: float
    high: float
    processes: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1], len(found))


def spread(results: Sequence[Mapping[str, Any]], key: str) -> Spread:
    return Spread.of(result[key] for result in results)


def seconds(value: Spread | float) -> str:
    """`1.23 ms (1.20-1.41)`"""
    median = value.median if isinstance(value, Spread) else value
    scale, unit = next(((s, u) for s, u in ((1, "s"), (1e3, "ms")) if median * s >= 1), (1e6, "us"))
    text = f"{median * scale:.3g} {unit}"
    if isinstance(value, Spread) and value.processes > 1:
        text += f" ({value.low * scale:.3g}-{value.high * scale:.3g})"
    return text


@dataclasses.dataclass
class Row:
    figure: str
    cells: dict[str, str]
    """Column -> text, between the name of the figure and the requirement."""
    value: float | None = None
    required: tuple[str, float] | None = None
    """`(">=", 30)`, judged on `value`."""
    unit: str = ""
    data: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def passed(self) -> bool | None:
        if self.required is None or self.value is None:
            return None
        sign, bound = self.required
        return {">=": self.value >= bound, "<=": self.value <= bound, "==": self.value == bound}[
            sign
        ]

    def texts(self) -> dict[str, str]:
        verdict = {True: "met", False: "MISSED", None: ""}[self.passed]
        required = f"{self.required[0]} {self.required[1]:,g}{self.unit}" if self.required else ""
        return {"figure": self.figure, **self.cells, "required": required, "verdict": verdict}

    def to_json(self) -> dict[str, Any]:
        required = f"{self.required[0]} {self.required[1]:g}" if self.required else None
        return {
            "figure": self.figure,
            "value": self.value,
            "unit": self.unit,
            "required": required,
            "met": self.passed,
            **self.data,
        }


def versus(
    figure: str,
    peer: Sequence[Mapping[str, Any]],
    ours: Sequence[Mapping[str, Any]],
    keys: tuple[str, str],
    required: float | None = None,
) -> Row:
    """How many times faster ours is: the ratio of the medians, and its extremes over the rounds."""
    theirs, mine = spread(peer, keys[0]), spread(ours, keys[1])
    rounds = [p[keys[0]] / o[keys[1]] for p, o in zip(peer, ours, strict=True)]
    ratio = theirs.median / mine.median
    shown = f"{ratio:,.3g}x" if ratio < 1000 else f"{ratio:,.0f}x"
    if len(rounds) > 1:
        shown += f" ({min(rounds):,.3g}-{max(rounds):,.3g})".replace("e+03", "k")
    return Row(
        figure,
        {"peer": seconds(theirs), "ours": seconds(mine), "ratio": shown},
        ratio,
        None if required is None else (">=", required),
        "x",
        {"peer": dataclasses.asdict(theirs), "ours": dataclasses.asdict(mine), "rounds": rounds},
    )


def check_packages(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Each side ran its own package, and not the other's."""
    here = str(HERE.parent)
    for name, results in found.items():
        for result in results:
            if result["package"].startswith(here) is (name == "peer"):
                raise SystemExit(f"{name} ran the package {result['package']}.")


def growth(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent k of values ~ sizes^k between the first and the last."""
    return math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0])


@functools.cache
def machine() -> dict[str, Any]:
    """What ran the benchmark, without names or paths of it."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    count = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu,
        "cores": count,
        "load_at_start": load,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
    }


class Report:
    """The table of a benchmark, and the same as JSON."""

    def __init__(self, title: str, pythons: Iterable[Interpreter]) -> None:
        self.title = title
        self.versions = [python.versions for python in pythons]
        self.sections: list[tuple[str, list[Row]]] = []
        print(f"{title}\n{', '.join(f'{k} {v}' for k, v in machine().items() if v is not None)}")
        for versions in self.versions:
            print("  " + ", ".join(f"{name} {version}" for name, version in versions.items()))

    def section(self, heading: str, rows: list[Row]) -> None:
        """Prints a table as soon as it is known."""
        self.sections.append((heading, rows))
        table = [row.texts() for row in rows]
        columns = list(dict.fromkeys(column for line in table for column in line))
        for last in ("required", "verdict"):
            columns.remove(last)
            if any(line[last] for line in table):
                columns.append(last)
        lines = [columns, *[[line.get(column, "") for column in columns] for line in table]]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        print(f"\n{heading}")
        for i, line in enumerate(lines):
            print("  " + "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())
            if i == 0:
                print("  " + "  ".join("-" * width for width in widths))
        sys.stdout.flush()

    def finish(self, options: argparse.Namespace) -> int:
        """Writes the JSON that was asked for; the exit status."""
        rows = [row for _, found in self.sections for row in found]
        missed = [row for row in rows if row.passed is False]
        judged = sum(row.passed is not None for row in rows)
        print(f"\n{judged - len(missed)} of {judged} requirements met.")
        if options.json:
            report = {
                "title": self.title,
                "command": _command(),
                "date": time.strftime("%Y-%m-%d"),
                "machine": machine(),
                "versions": self.versions,
                "sections": [
                    {"heading": heading, "rows": [row.to_json() for row in found]}
                    for heading, found in self.sections
                ],
            }
            Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
        return 1 if missed and options.strict else 0


def _command() -> str:
    """The command line, without the paths of this machine."""
    given = [Path(a).name if os.sep in a else a for a in sys.argv[1:]]
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *given])


def options(description: str | None, *, processes: int = 5, peer: bool = True) -> Any:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    parser.add_argument(
        "--strict", action="store_true", help="exit with status 1 if a requirement is missed"
    )
    if processes:
        parser.add_argument(
            "--processes", type=int, default=processes, help=f"fresh processes ({processes})"
        )
        parser.add_argument(
            "--budget", type=float, default=1.0, help="seconds per figure and process (1.0)"
        )
    if peer:
        parser.add_argument(
            "--peer",
            metavar="PYTHON",
            help=f"a Python with macrostat {PEER_VERSION}; default: MACROSTAT_PEER, or one made here",
        )
    return parser
