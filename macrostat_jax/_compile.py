"""Compiling: JAX's on-disk cache for what this library compiles, and a counter."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.core

from ._allocator import keep_freed_memory

logger = logging.getLogger(__name__)

_lock = threading.RLock()
_known: set[Any] = set()

generation = 0
"""How often all programs have been let go of: what is known to be compiled is known of one generation."""
_compiled = 0
CHECKED_EVERY, SPARED = 32, 0.7
NO, YES = ("off", "0", "no", "false"), ("on", "1", "yes", "true")


def call(function: Callable, plan: Any, *args: Any) -> Any:
    """Calls a jitted function whose first argument is static, with the on-disk cache while it compiles.

    Raises:
        RuntimeError: in a process that was forked after JAX had been used.
    """
    refuse_forks()
    keep_freed_memory()
    leaves = jax.tree.leaves(args)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return function(plan, *args)
    signature = (
        function,
        plan,
        setting("jax_enable_x64"),
        tuple((x.shape, x.dtype) for x in leaves),
    )
    if signature in _known:
        return function(plan, *args)
    with disk_cache():
        result = function(plan, *args)
    _known.add(signature)
    return result


def refuse_forks() -> None:
    """Raises where JAX would wait for ever: a fork has its locks, and not the threads that hold them."""
    process = os.getpid()
    if not _users:
        _users.append(process)
    elif _users[0] != process:
        raise RuntimeError(
            "This process was forked from one that had used JAX, whose threads it lacks: computing in it "
            "would hang. Start it with multiprocessing's 'spawn' instead of 'fork': "
            'DataLoader(..., multiprocessing_context="spawn"), get_context("spawn").Pool().'
        )


_users: list[int] = []
"""The process that has computed first."""


def options() -> dict[str, Any]:
    """Compiler options for large programs: as many modules to compile at a time as there are cores.

    XLA's 32 modules for a CPU each bring a compiler of their own: 60 to 80 MB more at the peak for the
    forward Jacobian of a model of 82 variables, and no time won on a few cores.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_cpu_parallel_codegen_split_count": min(32, os.cpu_count() or 1)}


def forget() -> None:
    """Lets go of all programs that JAX has compiled in this process; what is used again compiles again."""
    global generation
    generation += 1
    _known.clear()
    jax.clear_caches()


def _spare_maps() -> None:
    """Every program for a CPU holds some 50 to 200 memory maps. At the kernel's limit the next one would
    end the process with a segmentation fault: before that, all are let go of.
    """
    global _compiled
    _compiled += 1
    if _compiled % CHECKED_EVERY:
        return
    try:
        limit = int(Path("/proc/sys/vm/max_map_count").read_text())
        with open("/proc/self/maps", "rb") as maps:
            count = sum(1 for _ in maps)
    except (OSError, ValueError):  # no such limit on this system
        return
    if count > SPARED * limit:
        logger.info(
            "%d memory maps of %d are in use: letting go of compiled programs.", count, limit
        )
        forget()


def setting(name: str) -> Any:
    """A setting of JAX, as it is in this thread."""
    return getattr(jax.config, name)


def cache_directory() -> Path | None:
    """Where compiled programs are kept between processes; None where they are not.

    `MACROSTAT_CACHE=off` says no, `MACROSTAT_CACHE=/some/folder` says where. A cache that the user
    has set up in JAX (`jax_compilation_cache_dir`) is used as it is.
    """
    choice = os.environ.get("MACROSTAT_CACHE", "").strip()
    if choice.lower() in NO or not setting("jax_enable_compilation_cache"):
        return None
    try:
        if choice and choice.lower() not in YES:
            return Path(choice).expanduser()
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a user who has no home, as in some containers
        return None
    return Path(base) / "macrostat-jax" / f"jax-{jax.__version__}"


@contextlib.contextmanager
def disk_cache() -> Iterator[None]:
    """Within it, what JAX compiles is read from and kept in `cache_directory()`.

    The folder is private to the user: what lies in it is trusted, compiled code. The user's own
    settings are restored on the way out, and JAX's handle on the folder is reset, so that a cache
    which they set up later is theirs alone.
    """
    _spare_maps()
    with _collector_at_rest(), _kept_on_disk():
        yield


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Tracing makes objects by the hundred thousand and drops few of them. A full collection in its
    midst walks all of torch and jax, some 0.17 s, to find nothing: as long as compiling from disk takes.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def _kept_on_disk() -> Iterator[None]:
    directory = cache_directory() if setting("jax_compilation_cache_dir") is None else None
    if directory is None:
        yield
        return
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        private = directory.stat().st_uid == os.getuid() and not directory.stat().st_mode & 0o022
    except (OSError, AttributeError):
        private = False
    if not private:  # a read-only or shared home: compile without a cache
        yield
        return
    from jax.experimental.compilation_cache import compilation_cache

    settings = {
        "jax_compilation_cache_dir": str(directory),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    with _lock:
        before = {name: setting(name) for name in settings}
        try:
            for name, value in settings.items():
                jax.config.update(name, value)
            yield
        finally:
            for name, value in before.items():
                if setting(name) == settings[name]:  # else another thread of the user's has set it
                    jax.config.update(name, value)
            compilation_cache.reset_cache()


class Compilations:
    """How many programs XLA compiled (or read from the on-disk cache) since `count` began."""

    total = 0

    def __init__(self) -> None:
        self._before = Compilations.total

    @property
    def count(self) -> int:
        return Compilations.total - self._before


@contextlib.contextmanager
def count_compilations() -> Iterator[Compilations]:
    """Counts compilations: `with count_compilations() as n: ...; print(n.count)`."""
    global _listening
    if not _listening:
        jax.monitoring.register_event_duration_secs_listener(_listen)
        _listening = True
    yield Compilations()


_listening = False


def _listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        Compilations.total += 1
