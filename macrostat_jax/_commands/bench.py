"""`macrostat bench`: backends side by side."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEFAULT = ("GL06PC",)
SETTINGS = {"budget": 0.5, "rounds": 7, "processes": 3, "limit": 120.0, "seed": 0}
EVERY = 30.0
"""Seconds between notes of progress where there is no terminal."""


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    from ..bench._backends import BACKENDS
    from ..bench._cases import SCENARIOS

    lines = ["scenarios:", *(f"  {name:<18}{text}" for name, text in SCENARIOS.items())]
    lines += ["", "backends:", *(f"  {name:<18}{one.about}" for name, one in BACKENDS.items())]
    lines += [
        "",
        "All are measured unless told otherwise; what a backend cannot do is a row that says why.",
    ]
    parser.epilog = "\n".join(lines)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    take = parser.add_argument
    take("models", nargs="*", metavar="MODEL", help=f"of `macrostat list` (default: {DEFAULT[0]})")
    take("--scenario", action="append", metavar="NAME", help="only this one (repeat, or a,b,c)")
    take("--backend", action="append", metavar="NAME", help="only this one (repeat, or a,b,c)")
    take("--periods", action="append", metavar="T", help="horizons (repeat, or 100,1000)")
    take("--batch", action="append", metavar="B", help="runs of a sweep (repeat, or 64,1024)")
    take(
        "--size",
        action="append",
        default=[],
        metavar="AXIS=N",
        help="numbers of agents, e.g. firm=100,1000 (axes of several --size are combined)",
    )
    take("--budget", type=float, default=SETTINGS["budget"], metavar="SECONDS",
         help="prepared calls of each figure and process (default: 0.5)")  # fmt: skip
    take(
        "--rounds",
        type=int,
        default=SETTINGS["rounds"],
        metavar="N",
        help="turns of the backends (default: 7)",
    )
    take("--processes", type=int, default=SETTINGS["processes"], metavar="N",
         help="fresh processes of each backend (default: 3; 1 is quick, and cannot tell as much)")  # fmt: skip
    take("--limit", type=float, default=SETTINGS["limit"], metavar="SECONDS",
         help="give up a call after this, and further rounds of a row (default: 120)")  # fmt: skip
    take(
        "--seed",
        type=int,
        default=SETTINGS["seed"],
        metavar="N",
        help="of random models' noise (default: 0)",
    )
    take("--peer", metavar="PYTHON", help="a Python that has the published torch package")
    take("--json", metavar="FILE",
         help="save everything, for --compare and machines (until the end: NAME.part.json)")  # fmt: skip
    take("--csv", metavar="FILE", help="save the figures as a table")
    take("--plot", metavar="FILE", help="save a picture: times against batch and horizon")
    take("--compare", nargs=2, metavar=("OLD", "NEW"),
         help="compare two files of --json, and measure nothing; --json FILE saves the verdicts")  # fmt: skip
    take("--force", action="store_true", help="compare also different machines or versions")


def run(arguments: Any) -> int:
    if arguments.compare:
        return _compare(arguments)
    if arguments.force:
        raise ValueError("--force is of --compare.")
    return _measure(arguments)


def _compare(arguments: Any) -> int:
    from .._store import replacing
    from ..bench import compare

    names = ("csv", "plot", "scenario", "backend", "periods", "batch", "size", "peer")
    wrong = ["MODEL"] if arguments.models else []
    wrong += [f"--{name}" for name in names if getattr(arguments, name)]
    wrong += [f"--{name}" for name, usual in SETTINGS.items() if getattr(arguments, name) != usual]
    if wrong:
        raise ValueError(f"--compare measures nothing: it takes no {', '.join(wrong)}.")
    try:
        found = compare(*arguments.compare, force=arguments.force)
    except ValueError as error:
        raise ValueError(
            str(error).replace("force=True (on the command line: --force)", "--force")
        ) from None
    print(found)
    if arguments.json:
        with replacing(Path(arguments.json)) as scratch:
            scratch.write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="utf-8")
        print(f"  saved {arguments.json}")
    return 0


def _measure(arguments: Any) -> int:
    from .. import bench
    from ..cli import _picture, _say_saved

    for option, ending in (("json", ".json"), ("csv", ".csv")):
        file = getattr(arguments, option)
        if file and Path(file).suffix != ending:  # said before minutes of measuring, not after
            raise ValueError(f"--{option} {file}: the file's name ends in {ending}.")
    if arguments.plot:
        from matplotlib.figure import Figure

        kinds = Figure().canvas.get_supported_filetypes()
        if Path(arguments.plot).suffix[1:].lower() not in kinds:
            raise ValueError(
                f"--plot {arguments.plot}: the name ends in one of .{', .'.join(kinds)}."
            )
    begun = Path(arguments.json).with_suffix(".part.json") if arguments.json else None
    try:
        with _told() as tell:
            found = bench.run(
                arguments.models or DEFAULT,
                scenarios=_names(arguments.scenario),
                backends=_names(arguments.backend),
                periods=_numbers("--periods", arguments.periods) or (),
                batch=_numbers("--batch", arguments.batch) or (1024,),
                sizes=_sizes(arguments.size),
                budget=arguments.budget,
                rounds=arguments.rounds,
                processes=arguments.processes,
                limit=arguments.limit,
                peer=arguments.peer,
                seed=arguments.seed,
                command=_command(),
                progress=tell,
                keep=begun,
            )
    except KeyboardInterrupt:
        print("macrostat bench: stopped before anything was measured.", file=sys.stderr)
        return 130
    stopped = bool(found.settings.get("stopped"))
    json_file = begun if stopped else arguments.json  # part of a run takes no whole one's place
    print(found)  # first: what cannot be saved is not lost
    for file in (json_file, arguments.csv):
        if file:
            found.save(file)
    if begun is not None and not stopped:
        begun.unlink(missing_ok=True)
    if arguments.plot:
        if any(row.measured for row in found.rows):
            _picture(found.plot(), Path(arguments.plot))
        else:
            print("macrostat bench: nothing was measured: no picture.", file=sys.stderr)
            arguments.plot = None
    _say_saved(json_file, arguments.csv, arguments.plot)
    if stopped:
        print("macrostat bench: stopped; what was measured until then is above.", file=sys.stderr)
        return 130
    wrong = [row for row in found.rows if row.agrees is False]
    return 1 if wrong or not any(row.measured for row in found.rows) else 0


def _names(given: list[str] | None) -> list[str] | None:
    if given is None:
        return None
    return [name.strip() for text in given for name in text.split(",") if name.strip()]


def _numbers(option: str, given: list[str] | None) -> list[int] | None:
    try:
        return None if given is None else [int(name) for name in _names(given) or ()]
    except ValueError:
        raise ValueError(f"{option} takes whole numbers, not {', '.join(given or ())!r}.") from None


def _sizes(given: list[str]) -> list[dict[str, int]]:
    """Every combination of the sizes of the axes."""
    found: list[dict[str, int]] = [{}]
    for text in given:
        axis, equals, values = text.partition("=")
        if not (equals and axis.strip()):
            raise ValueError(f"--size takes AXIS=N, not {text!r}.")
        numbers = _numbers("--size", [values]) or []
        found = [one | {axis.strip(): n} for one in found for n in numbers]
    return found if given else []


def _command() -> str:
    """The command line, without the paths of this machine."""
    return shlex.join(
        ["macrostat", *(re.sub(r"(^|(?<==))/?([^/=]+/)+", "", a) for a in sys.argv[1:])]
    )


@contextlib.contextmanager
def _told() -> Iterator[Any]:
    """A function that writes a line of progress, again and again on a terminal."""
    terminal = sys.stderr.isatty()
    last, width = -EVERY, 0

    def tell(text: str) -> None:
        nonlocal last, width
        now = time.perf_counter()
        if not terminal and now - last < EVERY:
            return
        last, width = now, max(width, len(text))
        shown = f"\r{text:<{width}}" if terminal else f"{text}\n"
        print(shown, end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if width and terminal:
            print("\r" + " " * width + "\r", end="", file=sys.stderr, flush=True)
