"""`macrostat sensitivity`: what moves a model's variables."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

METHODS = ("sobol", "morris", "local")
SIZES = {"sobol": 1024, "morris": 50}
DEFAULT_SHARE = 0.1
FEW = 3
"""How many variables are looked at where none is named."""


def add(parser: argparse.ArgumentParser) -> None:
    """The options, after those of every model."""
    parser.add_argument(
        "--of",
        action="append",
        metavar="VARIABLE",
        help=f"the variable to explain (repeat for several; default: the first {FEW} main ones)",
    )
    parser.add_argument(
        "--method",
        default="sobol",
        choices=METHODS,
        help="sobol: shares of the variance; morris: screening from few runs; local: elasticities",
    )
    parser.add_argument(
        "--n",
        type=int,
        metavar="N",
        help="sobol: groups of d + 2 runs, a power of 2 (default: 1024); morris: trajectories of d + 1 "
        "runs (default: 50)",
    )
    parser.add_argument(
        "--bounds",
        action="append",
        default=[],
        metavar="NAME=LOW:HIGH",
        help="vary this parameter between these values (repeat for several)",
    )
    parser.add_argument(
        "--around",
        type=float,
        metavar="SHARE",
        help=f"without --bounds: vary every parameter by this share of its value to either side "
        f"(default: {DEFAULT_SHARE})",
    )
    parser.add_argument("--second-order", action="store_true", help="sobol: also pairs")
    parser.add_argument(
        "--design-seed", type=int, default=0, metavar="N", help="of the points (default: 0)"
    )
    parser.add_argument(
        "--drop", action="store_true", help="leave out groups with runs that are not finite"
    )
    parser.add_argument("--out", metavar="FILE", help="save the table: .csv, .parquet or .json")
    parser.add_argument("--plot", metavar="FILE", help="save a picture of the first variable")


def run(arguments: Any) -> int:
    from .._tables import save
    from ..cli import _chosen, _picture, _progress, _say_saved
    from ..plot._paths import main_variables

    model, inputs = _chosen(arguments)
    of = tuple(arguments.of or main_variables(model.State)[:FEW])
    with _progress(f"sensitivity of {model.name}"):
        found, note = _found(arguments, model, of, inputs)
    if arguments.json:
        print(json.dumps({"model": model.name, **found.to_dict()}, indent=2), flush=True)
    else:
        print(found)
        print("\n".join(["", *note]) if note else "", end="\n" if note else "", flush=True)
    # After the result is out: a file that cannot be written does not cost it.
    if arguments.out:
        save(found.to_pandas().reset_index(), Path(arguments.out))
    if arguments.plot:
        _picture(found.plot(), Path(arguments.plot))
    if not arguments.json:
        _say_saved(arguments.out, arguments.plot)
    return 0


def _found(
    arguments: Any, model: Any, of: tuple[str, ...], inputs: dict[str, Any]
) -> tuple[Any, list[str]]:
    """The result, and what to say of the region."""
    from .. import sensitivity

    method = arguments.method
    _refuse(arguments)
    if method == "local":
        return sensitivity.elasticities(model, of, **inputs), []
    bounds, note = _bounds(arguments, model, inputs["params"])
    options: dict[str, Any] = {"seed": arguments.design_seed, **inputs}
    if arguments.drop:
        options["nonfinite"] = "drop"
    n = SIZES[method] if arguments.n is None else arguments.n
    if method == "morris":
        return sensitivity.morris(model, n, bounds, of=of, **options), note
    pairs = arguments.second_order
    return sensitivity.sobol(model, n, bounds, of=of, second_order=pairs, **options), note


def _refuse(arguments: Any) -> None:
    """Options that would have no effect."""
    of_regions = {
        "--n": arguments.n is not None,
        "--bounds": bool(arguments.bounds),
        "--around": arguments.around is not None,
        "--drop": arguments.drop,
    }
    if arguments.method == "local" and (
        given := [key for key, there in of_regions.items() if there]
    ):
        raise ValueError(f"{', '.join(given)}: elasticities are at one point, not over a region.")
    if arguments.second_order and arguments.method != "sobol":
        raise ValueError(f"--second-order is of --method sobol, not of {arguments.method}.")
    if arguments.bounds and arguments.around is not None:
        raise ValueError("Give --bounds, or --around, not both.")


def _bounds(arguments: Any, model: Any, params: Any) -> tuple[dict[str, Any], list[str]]:
    from .. import sensitivity

    if arguments.bounds:
        bounds: dict[str, Any] = {}
        for name, pair in map(_pair, arguments.bounds):
            if name in bounds:
                raise ValueError(f"--bounds gives {name} twice.")
            bounds[name] = pair
        return bounds, []
    share = DEFAULT_SHARE if arguments.around is None else arguments.around
    bounds = sensitivity.around(model, share, params=params)
    note = [f"  Every parameter varies by {100 * share:g} % to either side, within its bounds."]
    free = sensitivity.free_parameters(model)
    if left := [name for name in free if name not in bounds]:
        note.append(f"  Not varied, for they are zero (--bounds varies them): {', '.join(left)}.")
    return bounds, note


def _pair(text: str) -> tuple[str, tuple[float, float]]:
    name, equals, ends = text.partition("=")
    low, colon, high = ends.partition(":")
    try:
        pair = float(low), float(high)
    except ValueError:
        equals = ""
        pair = 0.0, 0.0
    if not (equals and colon):
        raise ValueError(f"--bounds takes NAME=LOW:HIGH with numbers, not {text!r}.")
    return name.strip(), pair
