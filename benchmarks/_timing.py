"""How a time is taken inside one process. Nothing but the standard library: the peer runs it too."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

LEAST = 3
MOST = 2000


def clock(function: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def lap(function: Callable[[], Any], budget: float) -> float:
    """The median time of a call, over `budget` seconds of calls (at least 3, at most 2,000)."""
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < LEAST or (time.perf_counter() - start < budget and len(times) < MOST):
        times.append(clock(function))
        if times[-1] > budget and len(times) >= 1:
            break
    return statistics.median(times)


def lap_together(
    functions: Mapping[str, Callable[[], Any]], budget: float, turns: int = 5
) -> dict[str, float]:
    """The median time of each function, measured in turns, so that a disturbance meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(turns):
        for name, function in functions.items():
            times[name].append(lap(function, budget / turns))
    return {name: statistics.median(found) for name, found in times.items()}


def answer(figures: Mapping[str, Any]) -> None:
    """Hands the figures of a worker process to the benchmark that started it: its last line."""
    print(json.dumps(figures), flush=True)
