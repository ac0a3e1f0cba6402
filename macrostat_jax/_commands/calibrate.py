"""`macrostat calibrate`: fits parameters to data."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

KINDS = (
    "Normal", "HalfNormal", "LogNormal", "Beta", "Gamma", "InverseGamma", "Exponential", "Uniform",
)  # fmt: skip


def add(parser: argparse.ArgumentParser) -> None:
    """The options, after those of every model."""
    repeat: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument("data", metavar="DATA", help="a .csv or .parquet file, a row per date")
    parser.add_argument(
        "--observe",
        metavar="VARIABLE=COLUMN[:TRANSFORM]",
        help="what a column measures; transforms: level, log, difference, growth, log_growth, index "
        "(repeat for several; default: all columns, named as variables)",
        **repeat,
    )
    parser.add_argument(
        "--free",
        metavar="NAME[=LOW:HIGH]",
        help="a parameter to fit, or initial.VARIABLE (repeat for several; default bounds: the model's)",
        **repeat,
    )
    parser.add_argument(
        "--exogenous",
        metavar="SERIES=COLUMN",
        help="an exogenous series that is a column of the data (repeat for several)",
        **repeat,
    )
    parser.add_argument(
        "--initial",
        metavar="VARIABLE=VALUE",
        help="a variable before the first period (repeat for several)",
        **repeat,
    )
    parser.add_argument(
        "--start",
        metavar="NAME=VALUE",
        help="where the search begins (repeat for several; default: the model's value, or --set)",
        **repeat,
    )
    parser.add_argument(
        "--prior",
        metavar="NAME=KIND:NUMBER:...",
        help=f"a prior, as in tax_rate=normal:0.2:0.05; kinds: {', '.join(KINDS).lower()}",
        **repeat,
    )
    parser.add_argument(
        "--sigma",
        type=float,
        metavar="NUMBER",
        help="standard deviation of the measurement error (default: estimated for each series)",
    )
    parser.add_argument("--dates", metavar="COLUMN", help="the column that says when")
    parser.add_argument("--start-date", metavar="DATE", help="the first period, as in 1990Q1")
    parser.add_argument("--freq", metavar="FREQ", help="of the model's periods: Q, M, Y, ...")
    parser.add_argument("--method", default="lm", help="lm, bounded, bfgs, cma, ... (default: lm)")
    parser.add_argument(
        "--starts", type=int, default=1, metavar="N", help="search from N starts at once"
    )
    parser.add_argument(
        "--profile", metavar="NAME", help="the profile likelihood of a parameter (repeat for several)",
        **repeat,
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE", help="save the estimates: .csv, .parquet or .json")
    parser.add_argument("--plot", metavar="FILE", help="save a picture of data and fitted path")


def run(arguments: Any) -> int:
    """0: an optimum; 1: none was found."""
    from .._tables import save
    from ..cli import _chosen, _picture, _progress, _say_saved
    from ..estimation import fit

    model, inputs = _chosen(arguments)
    problem = _problem(arguments, model, inputs)
    profiled = [_label(problem, name) for name in arguments.profile]
    with _progress(f"fitting {model.name}"):
        found = fit(problem, arguments.method, starts=arguments.starts)
        profiles = [found.profile(name) for name in profiled]
    if arguments.json:
        print(_json(found, profiles), flush=True)
    else:
        print(found)
        print("".join(f"\n{one}" for one in profiles), end="\n" if profiles else "", flush=True)
    # After the result is out: a file that cannot be written does not cost it.
    if arguments.out:
        save(found.table().reset_index(), Path(arguments.out))
    if arguments.plot:
        _picture(found.plot(), Path(arguments.plot))
    if not arguments.json:
        _say_saved(arguments.out, arguments.plot)
    return 0 if found.success else 1


def _label(problem: Any, name: str) -> str:
    """A free parameter by any of its names."""
    from ..estimation._free import place

    found = place(problem.model, name).label
    if found not in problem.names:
        raise ValueError(f"--profile {name!r} is not free. Free are: {', '.join(problem.names)}.")
    return found


def _json(found: Any, profiles: Sequence[Any]) -> str:
    import json

    from ..estimation._fit import _plain

    intervals = {one.name: list(one.interval) for one in profiles}
    return json.dumps(found.to_dict() | {"profiles": _plain(intervals)}, indent=2)


def _problem(arguments: Any, model: Any, inputs: dict[str, Any]) -> Any:
    from ..estimation import Problem

    if not arguments.free:
        raise ValueError(
            f"--free says which parameters to fit (repeat for several). {model.name} has "
            f"{', '.join(model.Params.fields)}."
        )
    exogenous = _once(
        "--exogenous", [_pair("--exogenous", "SERIES=COLUMN", text) for text in arguments.exogenous]
    )
    if exogenous and arguments.scenario:
        raise ValueError("Give --scenario, or --exogenous, not both.")
    more: dict[str, Any] = inputs | ({"scenario": exogenous} if exogenous else {})
    return Problem(
        model,
        arguments.data,
        _once("--observe", map(_observed, arguments.observe)) or None,
        _once("--free", map(_free, arguments.free)),
        priors=_once("--prior", map(_prior, arguments.prior)),
        initial=_numbers("--initial", arguments.initial) or None,
        start=_numbers("--start", arguments.start),
        sigma=arguments.sigma,
        dates=arguments.dates,
        start_date=arguments.start_date,
        freq=arguments.freq,
        **more,
    )


def _once(option: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{option} names {name!r} twice.")
        found[name] = value
    return found


def _pair(option: str, form: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name.strip() and value.strip()):
        raise ValueError(f"{option} takes {form}, not {text!r}.")
    return name.strip(), value.strip()


def _numbers(option: str, texts: Sequence[str]) -> dict[str, float]:
    pairs = []
    for text in texts:
        name, value = _pair(option, "NAME=VALUE", text)
        try:
            pairs.append((name, float(value)))
        except ValueError:
            raise ValueError(f"{option} takes NAME=VALUE with a number, not {text!r}.") from None
    return _once(option, pairs)


def _observed(text: str) -> tuple[str, Any]:
    from ..estimation import Observed

    if "=" not in text:
        name, colon, transform = text.partition(":")
        return name, Observed(transform=transform) if colon else Observed()
    name, value = _pair("--observe", "VARIABLE=COLUMN[:TRANSFORM]", text)
    column, colon, transform = value.partition(":")
    return name, Observed(column, transform=transform) if colon else Observed(column)


def _free(text: str) -> tuple[str, Any]:
    if "=" not in text:
        return text, None
    name, value = _pair("--free", "NAME or NAME=LOW:HIGH", text)
    low, colon, high = value.partition(":")
    try:
        pair = float(low), float(high)
    except ValueError:
        colon, pair = "", (0.0, 0.0)
    if not colon:
        raise ValueError(f"--free takes NAME or NAME=LOW:HIGH with numbers, not {text!r}.")
    return name, pair


def _prior(text: str) -> tuple[str, Any]:
    import inspect

    from .. import estimation

    name, value = _pair("--prior", "NAME=KIND:NUMBER:...", text)
    kind, *texts = value.split(":")
    priors = {one.lower(): getattr(estimation, one) for one in KINDS}
    if kind.lower() not in priors:
        raise ValueError(f"--prior {text!r}: there is no {kind!r}. There are: {', '.join(priors)}.")
    prior = priors[kind.lower()]
    try:
        numbers = [float(one) for one in texts]
        inspect.signature(prior).bind(*numbers)
    except (ValueError, TypeError):
        wanted = ", ".join(inspect.signature(prior).parameters)
        raise ValueError(f"--prior {text!r}: {kind} takes the numbers {wanted}.") from None
    return name, prior(*numbers)
