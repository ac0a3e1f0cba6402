"""The backends: how each one's process is started."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@dataclasses.dataclass(frozen=True)
class Backend:
    """One way to run and differentiate a model.

    Args:
        about: what it is, in a line.
        module: the module of its process; None for the published package, which runs a file in an
            environment of its own.
        dtype: what it computes in.
    """

    about: str
    module: str | None = "macrostat_jax.bench.worker"
    dtype: str = "float64"


BACKENDS: dict[str, Backend] = {
    "jax-cpu": Backend("JAX, compiled for the CPU"),
    "jax-gpu": Backend("JAX, compiled for a GPU"),
    "jax-tpu": Backend("JAX, compiled for a TPU, in float32", dtype="float32"),
    "torch-eager": Backend("the model's step in torch's operations", "bridge.bench_worker"),
    "torch-compile": Backend("the same, each step by torch.compile", "bridge.bench_worker"),
    "numpy": Backend("the model's step in NumPy's operations"),
    "dual": Backend("dual numbers in NumPy: forward mode from first principles"),
    "published": Backend("the published torch package, from --peer PYTHON", None, "float32"),
}
"""Name -> backend."""

REFERENCE = "jax-cpu"
"""Whose forward mode in float64 the others' derivatives are compared with."""


def command(name: str, peer: str | None) -> list[str]:
    """The command line of a backend's process.

    Raises:
        LookupError: the published package without an environment; the message is the rows' reason.
    """
    module = BACKENDS[name].module
    if module is not None:
        return [sys.executable, "-m", module, name]
    if peer is None:
        raise LookupError("no environment with the published package was named (--peer PYTHON)")
    # The process has another working directory; and links must stay, they lead into the environment.
    path = os.path.abspath(peer) if os.path.dirname(peer) else peer
    # Found by name: that package is not imported, here or there.
    spec = importlib.util.find_spec("macrostat")
    assert spec is not None and spec.submodule_search_locations
    script = Path(spec.submodule_search_locations[0]) / "_bench_peer.py"
    return [path, str(script), str(HERE)]


def environment(name: str) -> dict[str, str]:
    """What a backend's process sees: no compiled programs of earlier runs, and its own packages."""
    env = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    if BACKENDS[name].module is None:
        env.pop("PYTHONPATH", None)
        return env
    paths = [str(ROOT), env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    env["MACROSTAT_CACHE"] = "off"
    env["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if name not in ("jax-gpu", "jax-tpu"):
        env["JAX_PLATFORMS"] = "cpu"
    return env
