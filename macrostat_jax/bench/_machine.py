"""What runs the benchmark."""

from __future__ import annotations

import math
import os
import platform
import re
from pathlib import Path
from typing import Any


def machine_of() -> dict[str, Any]:
    """What runs the benchmark, without names or paths of it."""
    cpu = platform.processor() or platform.machine()
    memory = None
    info, size = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if info.exists():
        models = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        cpu = models[0].strip() if models else cpu
    if size.exists() and (found := re.search(r"MemTotal:\s+(\d+)", size.read_text())):
        memory = math.ceil(int(found[1]) / 2**20)
    settings = ("XLA_FLAGS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu,
        "cores": _cores(),
        "memory_gib": memory,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        **{name: os.environ[name] for name in settings if name in os.environ},
    }


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
