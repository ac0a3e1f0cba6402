"""The command `macrostat`: list, simulate, differentiate and check models from the shell."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ._clash import clash
from ._commands import bench, calibrate, sensitivity, sweep

EXAMPLES = """examples:
  macrostat list
  macrostat simulate GL06SIMEX --set tax_rate=0.25 --steps 60 --out path.csv --plot path.png
  macrostat jacobian GL06PC --of national_income --plot heatmap.png
  macrostat check GL06SIMEX --plot report/
  macrostat diagnose GL06INSOUT --plot ladders.png
  macrostat sensitivity GL06PC --of national_income --around 0.2 --plot indices.png
  macrostat calibrate GL06SIM data.csv --observe national_income=gdp --free tax_rate --plot fit.png
  macrostat sweep GL06PC --n 65536 --bounds tax_rate=0.1:0.3 --keep national_income --out sweep/
  macrostat bench GL06PC --scenario simulate,gradient --json bench.json --plot bench.png

Every command computes in float64. Names are the model's own (tax_rate) or the public ones (TaxRate).
Compiled programs are kept on disk between runs (MACROSTAT_CACHE=off to switch that off)."""


def shell() -> int:
    """What the shell runs: `main` in a process of its own, which is set up for speed first."""
    _fast_loops()
    status = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # who read it has gone, of which Python would complain at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 success, 1 a check that did not pass, 2 bad input."""
    arguments = _parser().parse_args(argv)
    if problem := clash():
        print(f"macrostat: {problem}", file=sys.stderr)
    import jax

    try:
        if arguments.command != "bench":  # whose processes need the devices for themselves
            jax.devices()
    except (RuntimeError, AssertionError) as error:
        platforms = os.environ.get("JAX_PLATFORMS", "")
        reason = str(error).partition("\n")[0] or "no such platform in this JAX"
        hint = "unset JAX_PLATFORMS, or install JAX for it (docs/installation.md), e.g. jax[cuda13]"
        print(f"macrostat: JAX_PLATFORMS={platforms!r}: {reason}; {hint}.", file=sys.stderr)
        return 2
    try:
        with jax.enable_x64(True):
            return arguments.run(arguments)
    except BrokenPipeError:
        return 0
    except jax.errors.JaxRuntimeError:  # not the user's doing
        raise
    except (KeyError, ValueError, TypeError, OSError, OverflowError, RuntimeError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"macrostat {arguments.command}: {message}", file=sys.stderr)
        return 2


def _fast_loops() -> None:
    """jax 0.10 runs loops over buffers that are not tiny operation by operation, unless told otherwise.

    Later releases need no such option, and stop at it.
    """
    if importlib.metadata.version("jax").startswith("0.10.") and "XLA_FLAGS" not in os.environ:
        option = "xla_cpu_small_while_loop_byte_threshold=1048576"
        os.environ["XLA_FLAGS"] = f"--xla_backend_extra_options={option}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="macrostat",
        description="Differentiable macroeconomic models.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Any], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        return sub

    command("list", _list, "List the models, with their size and scenarios.")

    one = command("simulate", _simulate, "Simulate a model; print, save or plot its path.")
    _model_options(one)
    one.add_argument("--out", metavar="FILE", help="save the path: .csv, .parquet or .json")
    one.add_argument("--plot", metavar="FILE", help="save a picture of the path (.png, .pdf, .svg)")

    one = command("jacobian", _jacobian, "The derivative of variables by parameters, over time.")
    _model_options(one)
    _of_options(one, "the variable to differentiate (repeat for several)", required=True)
    one.add_argument(
        "--wrt",
        action="append",
        metavar="INPUT",
        help="parameter, scenario.SERIES or initial.VARIABLE",
    )
    one.add_argument("--mode", default="auto", help="auto, forward or reverse (default: auto)")
    one.add_argument("--out", metavar="FILE", help="save the table: .csv, .parquet or .json")
    one.add_argument("--plot", metavar="FILE", help="save a heat map, parameter by time")

    text = "Differentiate a model forward, in reverse and by finite differences, and say whether they agree."
    one = command("check", _check, text)
    _model_options(one)
    _of_options(one, "check these variables' paths (default: the mean over time of every variable)")
    one.add_argument("--space", default="auto", help="finite-difference steps: log, direct or auto")
    one.add_argument(
        "--epsilon", type=float, default=1e-3, help="finite-difference step (default: 1e-3)"
    )
    one.add_argument("--rtol", type=float, default=1e-5, help="relative tolerance (default: 1e-5)")
    one.add_argument("--atol", type=float, default=1e-8, help="absolute tolerance (default: 1e-8)")
    one.add_argument(
        "--plot",
        metavar="FOLDER",
        help="also save a Jacobian heat map and an impulse response there",
    )
    text = "A verdict on every parameter (smooth, kink, jump, flat, ...), and the line of code where it begins."
    one = command("diagnose", _diagnose, text)
    _model_options(one)
    one.add_argument(
        "--sharpness",
        action="append",
        type=float,
        default=[],
        metavar="NUMBER",
        help="also say how far smooth switches take the path (repeat for several)",
    )
    one.add_argument(
        "--engine", choices=["dual"], help="also differentiate by dual numbers in NumPy"
    )
    one.add_argument("--plot", metavar="FILE", help="save the step ladders of what is at fault")

    text = "What moves a model's variables: Sobol indices, Morris screening or elasticities."
    one = command("sensitivity", sensitivity.run, text)
    _model_options(one)
    sensitivity.add(one)

    text = "Fit a model's parameters to data: estimates, standard errors, and what the data do not say."
    one = command("calibrate", calibrate.run, text)
    _model_options(one)
    calibrate.add(one)

    text = "Run a model at many points, on this machine or a cluster; resume where it stopped."
    one = command("sweep", sweep.run, text)
    _model_options(one)
    sweep.add(one)
    text = "Time models on several backends, with what each cannot do; compare two such runs."
    one = commands.add_parser("bench", help=text, description=text)
    one.set_defaults(run=bench.run)
    bench.add(one)
    return parser


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="one of `macrostat list`")
    parser.add_argument("--scenario", metavar="NAME", help="a named scenario (default: none)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter's value"
    )
    parser.add_argument("--steps", type=int, metavar="T", help="how many periods")
    parser.add_argument("--seed", type=int, metavar="N", help="of a random model (default: 0)")


def _of_options(parser: argparse.ArgumentParser, text: str, required: bool = False) -> None:
    parser.add_argument("--of", action="append", metavar="VARIABLE", required=required, help=text)


def _version() -> str:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("macrostat-jax", "jax")]
    return ", ".join(versions)


def _chosen(arguments: Any) -> tuple[Any, dict[str, Any]]:
    """The model and the inputs that the options name."""
    from . import models

    model = models.get(arguments.model)
    values: dict[str, float] = {}
    for count, text in enumerate(arguments.set, 1):
        name, equals, value = text.partition("=")
        try:
            values[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"--set takes NAME=VALUE with a number, not {text!r}.")
        if len(values) < count:
            raise ValueError(f"--set gives {name.strip()} twice.")
    inputs = {
        "params": model.params(**values),
        "scenario": arguments.scenario,
        "periods": arguments.steps,
    }
    if model.random or model.random_start:
        import jax

        inputs["key"] = jax.random.key(arguments.seed or 0)
    elif arguments.seed is not None:
        raise ValueError(f"{model.name} is not random: it takes no --seed.")
    return model, inputs


def _list(arguments: Any) -> int:
    from . import models

    rows = []
    for name in models.names():
        model = models.get(name)
        rows.append(
            {
                "model": name,
                "title": model.title,
                "parameters": len(model.Params.fields),
                "variables": len(model.State.fields),
                "periods": model.periods,
                "scenarios": ["default", *model.scenarios],
            }
        )
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'model':<18}{'parameters':>10}{'variables':>10}{'scenarios':>10}  ")
    for row in rows:
        counts = f"{row['parameters']:>10}{row['variables']:>10}{len(row['scenarios']):>10}"
        print(f"{row['model']:<18}{counts}  {row['title']}")
    return 0


def _simulate(arguments: Any) -> int:
    from ._simulate import simulate
    from ._tables import check_ending, save, to_pandas
    from ._undefined import undefined

    if arguments.out:
        check_ending(Path(arguments.out))
    model, inputs = _chosen(arguments)
    with _progress(f"simulating {model.name}"):
        path = simulate(model, **inputs)
        table = to_pandas(path)
    for origin in undefined(model, path):
        print(f"macrostat: {origin}", file=sys.stderr)
    if arguments.out:
        save(table, Path(arguments.out))
    if arguments.plot:
        from .plot import paths

        _picture(paths(path, title=model.title), Path(arguments.plot))
    if arguments.json:
        print(json.dumps({"model": model.name, "path": table.to_dict(orient="list")}))
    else:
        _print_path(model, table)
        _say_saved(arguments.out, arguments.plot)
    return 0


def _print_path(model: Any, table: Any) -> None:
    print(f"{model.name}: {model.title}\n{len(table)} periods\n")
    shown = [t for t in (0, 1, 2, len(table) // 2, len(table) - 1) if t < len(table)]
    shown = sorted(set(shown))
    print(f"  {'period':<34}" + "".join(f"{t:>13}" for t in shown))
    for name in table.columns:
        print(f"  {name:<34}" + "".join(f"{table[name].iloc[t]:>13.6g}" for t in shown))


def _jacobian(arguments: Any) -> int:
    from ._tables import check_ending, save
    from .diff import jacobian

    if arguments.out:
        check_ending(Path(arguments.out))
    model, inputs = _chosen(arguments)
    with _progress(f"differentiating {model.name}"):
        found = jacobian(
            model, tuple(arguments.of), wrt=arguments.wrt or "params", mode=arguments.mode, **inputs
        )
        table = found.to_pandas()
    if arguments.out:
        save(table.reset_index(), Path(arguments.out))
    if arguments.plot:
        from .plot import heatmap

        _picture(heatmap(found), Path(arguments.plot))
    if arguments.json:
        values = {o: table.loc[o].to_dict(orient="list") for o in found.values}
        print(json.dumps({"model": model.name, "mode": found.mode, "jacobian": values}))
    else:
        print(found)
        _say_saved(arguments.out, arguments.plot)
    return 0


def _check(arguments: Any) -> int:
    from .diff import check

    model, inputs = _chosen(arguments)
    of = tuple(arguments.of) if arguments.of else None
    with _progress(f"checking {model.name}"):
        report = check(
            model,
            of,
            space=arguments.space,
            step=arguments.epsilon,
            rtol=arguments.rtol,
            atol=arguments.atol,
            **inputs,
        )
    saved = _report_pictures(model, inputs, Path(arguments.plot), of) if arguments.plot else []
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        print(report)
        _say_saved(*saved)
    return 0 if report.passed else 1


def _diagnose(arguments: Any) -> int:
    from .diff import diagnose

    model, inputs = _chosen(arguments)
    with _progress(f"diagnosing {model.name}"):
        report = diagnose(model, sharpness=arguments.sharpness, engine=arguments.engine, **inputs)
    if arguments.plot:
        _picture(report.plot(), Path(arguments.plot))
    if arguments.json:
        print(report.to_json())
    else:
        print(report)
        _say_saved(arguments.plot)
    return 0 if report.passed else 1


def _report_pictures(
    model: Any, inputs: dict[str, Any], folder: Path, of: tuple[str, ...] | None
) -> list[str]:
    from .diff import jacobian
    from .plot import heatmap, impulse_response

    folder.mkdir(parents=True, exist_ok=True)
    scalars = [key for key, field in model.State.fields.items() if not field.shape]
    variable = of[0] if of else "national_income" if "national_income" in scalars else None
    saved = []
    if variable or scalars:
        found = jacobian(model, variable or scalars[0], **inputs)
        saved.append(str(folder / "jacobian.png"))
        _picture(heatmap(found), Path(saved[-1]))
    series = [key for key, field in model.Scenario.fields.items() if not field.shape]
    if series:
        saved.append(str(folder / "impulse_response.png"))
        _picture(impulse_response(model, series[0], **inputs), Path(saved[-1]))
    return saved


def _picture(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _say_saved(*files: str | Path | None) -> None:
    for file in files:
        if file:
            print(f"  saved {file}")


@contextmanager
def _progress(what: str) -> Any:
    """A note on the terminal for what takes over a second: compiling does, the first time."""
    done = threading.Event()
    start = time.perf_counter()

    def tell() -> None:
        while not done.wait(1.0):
            seconds = time.perf_counter() - start
            print(f"\r{what} (compiling, {seconds:.0f} s) ", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    if sys.stderr.isatty():
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()
            print("\r" + " " * (len(what) + 24) + "\r", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(shell())
