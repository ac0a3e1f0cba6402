"""The worker's side of the conversation. Nothing but the standard library: the published package's
environment runs it too.

Requests and answers are lines of JSON on standard input and output. What libraries print goes to
standard error. A request that a backend cannot fulfil is answered with the reason.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any


class Refused(Exception):
    """What a backend cannot do; the message is the row's reason."""


def serve(subject: Any) -> None:
    """Answers requests until the input ends.

    Args:
        subject: with methods `hello() -> dict`, `limits() -> dict`, `prepare(case) -> dict`,
            `call() -> None` (which waits for the result), `result(file) -> dict`,
            `reference(case, file) -> dict` and `drop() -> None`; and, where it computes in another
            memory than the process's, `device_bytes`.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    memory = Peak()

    def first(_: Any) -> dict[str, Any]:
        return {"seconds": clock(subject.call)}

    def measure(request: Any) -> dict[str, Any]:
        return {"seconds": [clock(subject.call) for _ in range(request["calls"])]}

    def prepare(request: Any) -> dict[str, Any]:
        memory.begin()
        start = time.perf_counter()
        found = subject.prepare(request["case"])
        return {"seconds": time.perf_counter() - start, **found}

    def peak(_: Any) -> dict[str, Any]:
        on_device = getattr(subject, "device_bytes", None)
        return {"bytes": memory.growth() if on_device is None else on_device}

    def drop(_: Any) -> dict[str, Any]:
        subject.drop()
        return {}

    table: dict[str, Callable[[Any], dict[str, Any]]] = {
        "hello": lambda _: subject.hello(),
        "limits": lambda _: subject.limits(),
        "prepare": prepare,
        "first": first,
        "measure": measure,
        "peak": peak,
        "result": lambda request: subject.result(request["file"]),
        "reference": lambda request: subject.reference(request["case"], request["file"]),
        "drop": drop,
    }
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = table[request["do"]](request)
        except Refused as error:
            answer = {"refused": str(error)}
        except Exception as error:  # whatever a library raises is an answer, not the end
            answer = {"refused": said(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def said(error: BaseException) -> str:
    """An exception as the reason of a row: its kind, and the first sentence of what it says."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    text = re.sub(r"/[^\s'\"]*/", "", text)  # paths of this machine are no reason
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__


def clock(function: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class Peak:
    """By how much the process's memory grows at most between `begin` and `growth`."""

    def __init__(self) -> None:
        self._start, self._resets = 0, False

    def begin(self) -> None:
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # the peak starts anew
            self._resets = True
        except OSError:
            self._resets = False
        self._start = status("VmRSS") if self._resets else most()

    def growth(self) -> int:
        """Bytes. Where the system cannot start the peak anew, growth beyond every earlier peak."""
        return max((status("VmHWM") if self._resets else most()) - self._start, 0)


def status(what: str) -> int:
    """A figure of this process's memory on Linux, in bytes; 0 elsewhere."""
    try:
        with open("/proc/self/status") as file:
            found = re.search(rf"{what}:\s+(\d+) kB", file.read())
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0


def most() -> int:
    """The largest memory that the process ever had, in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def repeat(function: Callable[[], Any], seconds: float = 0.15, least: int = 3) -> float:
    """The shortest of repeated calls: for the limits of the machine, which nothing can beat."""
    function()
    times = [clock(function) for _ in range(least)]
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        times.append(clock(function))
    return min(times)
