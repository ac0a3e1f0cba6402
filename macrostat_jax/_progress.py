"""A progress bar, where tqdm is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress(total: int, label: str, *, show: bool = True, done: int = 0) -> Iterator[Callable]:
    """Yields `advance(n)`: n more of `total` are finished; `done` of them were before.

    Without tqdm, a line on standard error says how to get the bar.
    """
    tqdm: Any = None
    if show:
        try:
            from tqdm import tqdm
        except ImportError:
            print(f"{label}: a progress bar needs tqdm: pip install tqdm", file=sys.stderr)
    if tqdm is None:
        yield lambda n=1: None
        return
    with tqdm(total=total, desc=label) as bar:
        if done:
            bar.update(done)
        yield bar.update
