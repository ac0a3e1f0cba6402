"""What a forked process says."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from typing import Any

import pytest

needed = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system"
)


def error_of(work: Callable[[], Any]) -> str:
    """The RuntimeError of `work` in a fork of this process; fails where it hangs."""
    context: Any = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def told() -> None:
        try:
            work()
        except RuntimeError as error:
            theirs.send(str(error))

    process = context.Process(target=told)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns of any fork
        process.start()
    try:
        assert ours.poll(60), "the fork hangs"
        return ours.recv()
    finally:
        process.kill()
        process.join()
