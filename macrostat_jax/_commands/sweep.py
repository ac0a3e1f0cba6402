"""`macrostat sweep`: a model at many points, on this machine or on many."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .sensitivity import DEFAULT_SHARE, _bounds

DESIGNS = ("sobol", "halton", "latin_hypercube", "random", "grid")
SIZES = (1024, 10)
"""How many points, and how many values of each parameter of a grid."""
EVERY = 30.0
"""Seconds between notes of progress where there is no terminal."""

SHOWN = 24
"""So many rows of statistics are printed."""


def add(parser: argparse.ArgumentParser) -> None:
    """The options, after those of every model."""
    take = parser.add_argument
    take(
        "--design", default="sobol", choices=DESIGNS, help="how points are chosen (default: sobol)"
    )
    take(
        "--n",
        type=int,
        metavar="N",
        help=f"how many points: for sobol a power of 2 (default: {SIZES[0]}); grid: values of each "
        f"parameter (default: {SIZES[1]})",
    )
    take(
        "--bounds",
        action="append",
        default=[],
        metavar="NAME=LOW:HIGH",
        help="vary this parameter between these values (repeat for several)",
    )
    take(
        "--around",
        type=float,
        metavar="SHARE",
        help="without --bounds: vary every parameter by this share of its value to either side "
        f"(default: {DEFAULT_SHARE})",
    )
    take("--log", action="append", default=[], metavar="NAME", help="sample it in the logarithm")
    take("--design-seed", type=int, default=0, metavar="N", help="of the points (default: 0)")
    take(
        "--across",
        action="append",
        default=[],
        metavar="SCENARIO",
        help="run every point under this scenario (repeat for several; 'default' is one)",
    )
    take("--seeds", type=int, metavar="N", help="run every point of a random model with N seeds")
    take(
        "--keep",
        action="append",
        default=[],
        metavar="VARIABLE[:WHAT]",
        help="what to keep of a run: a variable's last value, or its first, mean, std, min, max, path, or "
        "a period (repeat for several; default: the last values of the main variables)",
    )
    take("--out", metavar="FOLDER", help="keep the results there, a file for each finished chunk")
    take("--resume", action="store_true", help="go on with the sweep that --out holds")
    take("--workers", type=int, metavar="N", help="compute in N processes with a core each")
    take("--cluster", metavar="ADDRESS", help="compute on the workers of this Dask scheduler")
    take("--chunk", type=int, metavar="N", help="finish so many runs at a time")
    take("--memory", metavar="SIZE", help="what a process may add to its memory, e.g. 2GB")
    take("--plot", metavar="FILE", help="save a picture of what was kept against what was varied")


def run(arguments: Any) -> int:
    _refuse(arguments)
    try:
        return _run(arguments)
    except KeyboardInterrupt:  # once more, while workers are sent home
        return 130


def _run(arguments: Any) -> int:
    from .. import sample
    from ..cli import _chosen, _picture, _say_saved

    model, inputs = _chosen(arguments)
    design, note = _design(arguments, model, inputs)
    keep = sample.Outcomes(*(arguments.keep or _main(model)))
    options = {"chunk": arguments.chunk, "memory": arguments.memory, "out": arguments.out}
    begun = time.perf_counter()
    with _workers(arguments) as executor, _told(f"sweep of {model.name}") as tell:
        try:
            base = inputs.pop("params")
            found = _quietly(
                sample.sweep, model, design, keep=keep, base=base, executor=executor, progress=tell,
                **inputs, **options,
            )  # fmt: skip
        except KeyboardInterrupt:
            safe = (
                f"; what is finished is in {arguments.out}: --resume goes on"
                if arguments.out
                else ""
            )
            print(f"\nmacrostat sweep: stopped{safe}.", file=sys.stderr)
            return 130
    seconds = time.perf_counter() - begun
    if arguments.json:
        print(json.dumps(_summary(model, design, found, seconds, arguments), indent=2))
    else:
        _print(model, design, found, seconds, note)
        _say_saved(arguments.out)
    if (
        arguments.plot
    ):  # what was found is said before, lest a picture that cannot be drawn costs it
        _picture(found.plot(), Path(arguments.plot))
        if not arguments.json:
            _say_saved(arguments.plot)
    return 1 if getattr(found, "failed", None) else 0


def _refuse(arguments: Any) -> None:
    """Options that contradict each other, or would have no effect."""
    from ..sample._folder import MANIFEST

    if arguments.resume and not arguments.out:
        raise ValueError("--resume goes on with the sweep of a folder: name it with --out.")
    if arguments.workers is not None and arguments.cluster:
        raise ValueError("Give --workers, or --cluster, not both.")
    if arguments.bounds and arguments.around is not None:
        raise ValueError("Give --bounds, or --around, not both.")
    if arguments.across and arguments.scenario:
        raise ValueError("Give --scenario, or --across, not both.")
    if arguments.seeds is not None and arguments.seed is not None:
        raise ValueError("Give --seed, or --seeds, not both.")
    if arguments.out and not arguments.resume and (Path(arguments.out) / MANIFEST).exists():
        raise ValueError(
            f"{arguments.out} holds a sweep already: add --resume to go on with it, or choose another "
            "folder."
        )


def _design(arguments: Any, model: Any, inputs: dict[str, Any]) -> tuple[Any, list[str]]:
    from .. import sample

    bounds, note = _bounds(arguments, model, inputs["params"])
    n = SIZES[arguments.design == "grid"] if arguments.n is None else arguments.n
    if arguments.design == "grid":
        design: Any = sample.grid(model, n, bounds, log=arguments.log)
    else:
        make = getattr(sample, arguments.design)
        design = make(model, n, bounds, log=arguments.log, seed=arguments.design_seed)
    if arguments.across or arguments.seeds is not None:
        if arguments.across:
            inputs.pop("scenario")
        if arguments.seeds is not None and inputs.pop("key", None) is None:
            raise ValueError(f"{model.name} is not random: it takes no --seeds.")
        seeds = () if arguments.seeds is None else arguments.seeds
        design = sample.cross(design, arguments.across, seeds)
    return design, note


def _main(model: Any) -> list[str]:
    from ..plot._paths import main_variables

    return main_variables(model.State)


def _quietly(sweep: Any, *args: Any, **options: Any) -> Any:
    """What the library warns of, as notes."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        found = sweep(*args, **options)
    for one in caught:
        print(f"macrostat sweep: {one.message}", file=sys.stderr)
    return found


@contextlib.contextmanager
def _workers(arguments: Any) -> Iterator[Any]:
    from .. import sample

    if arguments.workers is None and not arguments.cluster:
        yield None
        return
    # When it is interrupted, Dask has much to say that is of no use here.
    quiet: dict[str, Any] = {} if arguments.cluster else {"silence_logs": logging.ERROR}
    try:
        client = sample.cluster(arguments.cluster or arguments.workers, **quiet)
    except ImportError as error:
        raise ValueError(str(error)) from error
    for name in ("tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with client:
        yield client


@contextlib.contextmanager
def _told(what: str) -> Iterator[Any]:
    """A function that writes a line of progress, again and again on a terminal."""
    terminal = sys.stderr.isatty()
    last, width = time.perf_counter(), 0

    def tell(status: Any) -> None:
        nonlocal last, width
        now = time.perf_counter()
        finished = status.done == status.total
        if now - last < (0.1 if terminal else EVERY) and not (finished and terminal):
            return
        last = now
        text = f"{what}: {line(status)}"
        width = max(width, len(text))
        begin, end = ("\r", "") if terminal else ("", "\n")
        print(f"{begin}{text:<{width}}", end=end, file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if width and terminal:
            print("\r" + " " * width + "\r", end="", file=sys.stderr, flush=True)


def line(status: Any) -> str:
    """`12,288 of 65,536 runs (19 %), 41,000 a second, 1.3 s left, 3 not finite`"""
    text = f"{status.done:,} of {status.total:,} runs ({100 * status.done // status.total} %)"
    if status.rate:
        text += f", {float(f'{status.rate:.2g}'):,.0f} a second, {_time(status.remaining)} left"
    text += f", {status.diverged:,} not finite" if status.diverged else ""
    return text + (f", {status.failed:,} chunks failed" if status.failed else "")


def _time(seconds: float) -> str:
    if seconds < 99:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, _ = divmod(round(seconds), 60)
    return f"{minutes} min" if minutes < 99 else f"{minutes // 60} h {minutes % 60} min"


def _summary(model: Any, design: Any, found: Any, seconds: float, arguments: Any) -> dict[str, Any]:
    table = found.statistics()
    summary = {
        "model": model.name,
        "design": dict(design.origin),
        "runs": len(found),
        "of": len(design),
        "diverged": found.diverged,
        "seconds": round(seconds, 3),
        "statistics": {name: _numbers(row) for name, row in table.to_dict("index").items()},
    }
    if arguments.out:
        summary["out"] = arguments.out
        summary["failed"] = list(found.failed.values())
        summary["missing"] = found.missing
    return summary


def _numbers(row: dict[str, Any]) -> dict[str, float | None]:
    """As JSON has them: every digit, and null where there is none."""
    return {name: value if math.isfinite(value) else None for name, value in row.items()}


def _print(model: Any, design: Any, found: Any, seconds: float, note: list[str]) -> None:
    print(f"{model.name}: {model.title}")
    names = ", ".join(design.names[:6]) + (", ..." if len(design.names) > 6 else "")
    print(f"{design.origin['kind']} design over {names}")
    for text in note:
        print(text)
    each = len(found) / seconds
    print(
        f"{len(found):,} runs in {_time(seconds)} ({float(f'{each:.2g}'):,.0f} a second, with the start)"
    )
    if found.diverged:
        print(f"{found.diverged:,} runs are not finite: marked, and kept out of the statistics")
    for number, one in getattr(found, "failed", {}).items():
        print(f"chunk {number} failed (runs {one['start']:,}-{one['stop'] - 1:,}): {one['error']}")
    table = found.statistics().drop(columns=["runs", "diverged"])
    print(f"\n  {'kept':<34}" + "".join(f"{name:>12}" for name in table.columns))
    for name, row in table.head(SHOWN).iterrows():
        print(f"  {name!s:<34}" + "".join(f"{value:>12.5g}" for value in row))
    if len(table) > SHOWN:
        print(f"  ... and {len(table) - SHOWN:,} more (--json has all of them)")
