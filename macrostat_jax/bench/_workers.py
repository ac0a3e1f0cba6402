"""The driver's side of the conversation: a backend's process, asked and answered with a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ._backends import command, environment

STARTING = 120.0
"""Seconds that a process may take until it answers for the first time: importing torch or JAX."""


class Cannot(Exception):
    """What a backend cannot do; the message is the reason that the rows give."""


class Gone(Cannot):
    """The process ended, or was ended because it took too long."""


class Worker:
    """A backend's process.

    Args:
        name: one of `BACKENDS`.
        peer: the Python of the published package's environment.
        limit: seconds that any answer may take.

    Raises:
        Cannot: it does not start, or lacks a package or a device.
    """

    def __init__(self, name: str, peer: str | None, limit: float) -> None:
        self.name, self.limit = name, limit
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._scratch = tempfile.TemporaryDirectory(prefix="macrostat-bench-")
        self._rest = b""
        try:
            self._process = subprocess.Popen(
                command(name, peer),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment(name),
                cwd=self._scratch.name,
            )
        except (OSError, LookupError) as error:
            self._scratch.cleanup()
            self._errors.close()
            text = str(error.args[0]) if isinstance(error, LookupError) else str(error)
            raise Cannot(text) from None
        assert self._process.stdin is not None and self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        try:
            self.about = self.ask("hello", limit=max(STARTING, limit))
        except Cannot:
            self.close()
            raise

    def ask(self, do: str, *, limit: float | None = None, **request: Any) -> dict[str, Any]:
        """One request and its answer.

        Raises:
            Cannot: the backend refused, with its reason. Gone: the process ended, or ran past the limit.
        """
        limit = self.limit if limit is None else limit
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise Gone(self._end()) from None
        answer = self._answer(limit)
        if "refused" in answer:
            raise Cannot(answer["refused"])
        return answer

    def _answer(self, limit: float) -> dict[str, Any]:
        """The next line that is an answer: what libraries print while they are imported is none."""
        deadline = time.monotonic() + limit
        while True:
            line = self._line(deadline, limit)
            with contextlib.suppress(ValueError):
                if isinstance(answer := json.loads(line), dict):
                    return answer

    def _line(self, deadline: float, limit: float) -> bytes:
        stream = self._process.stdout
        assert stream is not None
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    self._process.kill()
                    raise Gone(f"stopped after {limit:.0f} s (--limit)")
                more = os.read(stream.fileno(), 1 << 16)
                if not more:
                    raise Gone(self._end())
                self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _end(self) -> str:
        """Why the process is no more."""
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            status = None
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if status is not None and status < 0:
            name = signal.Signals(-status).name
            return f"the process was ended by {name}" + (
                ", as when memory runs out" if name == "SIGKILL" else ""
            )
        if "No module named" in last:
            package = last.rpartition("'")[0].rpartition("'")[2]
            extra = (
                'pip install "macrostat-jax[torch]"'
                if package == "torch"
                else f"pip install {package}"
            )
            return f"the package {package} is not installed ({extra})"
        return f"the process ended: {last[:160]}" if last else "the process ended without a word"

    def arrays(self, do: str, **request: Any) -> dict[str, np.ndarray]:
        """A request whose answer is arrays by name."""
        file = Path(self._scratch.name) / "arrays.npz"
        try:
            self.ask(do, file=str(file), **request)
            with np.load(file, allow_pickle=False) as found:
                return {key: found[key] for key in found.files}
        finally:
            file.unlink(missing_ok=True)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """Ends the process: its input ends, and it goes; if not, it is made to."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()
        self._scratch.cleanup()
