"""Pages about models, made from their declarations.

    python -m macrostat_jax.docs docs/models

writes a page for every registered model, with a picture of each of its scenarios, and an index.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import _document, accounts
from ._document import Block, Code, Equation, Heading, Picture, Table, Text
from ._model import Model
from ._record import NET_WORTH, Field, Record, camel_case
from ._store import replacing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PICTURES = "pictures"
"""The folder, beside the pages, of their pictures."""

COMMAND = "python -m macrostat_jax.docs"

_WRITERS = {"markdown": _document.markdown, "rst": _document.rst, "latex": _document.latex}


def page(model: Model, style: Literal["markdown", "rst", "latex"] = "markdown") -> str:
    """What there is to know about a model: its equations, parameters, scenarios and accounts.

    Everything is taken from the declaration; nothing is simulated.

    Args:
        model: the model.
        style: Markdown (with mathematics in dollars, as GitHub and MyST read it),
            reStructuredText, or LaTeX.

    Raises:
        ValueError: another style.
    """
    if style not in _WRITERS:
        raise ValueError(f"style must be one of {', '.join(_WRITERS)}, not {style!r}.")
    return _WRITERS[style](blocks(model))


def write_page(model: Model, folder: os.PathLike | str) -> Path:
    """Writes `NAME.md` and, in `pictures/`, a picture of each scenario.

    Args:
        model: the model. Each of its scenarios is simulated, with its defaults.
        folder: made if it does not exist.

    Returns:
        The page.
    """
    write_pictures(model, folder)
    return _document.write(Path(folder) / f"{model.name}.md", page(model))


def write_pictures(model: Model, folder: os.PathLike | str) -> None:
    """Writes the pictures that the page shows, into `pictures/` of the folder."""
    from . import plot

    (Path(folder) / PICTURES).mkdir(parents=True, exist_ok=True)
    for name in (None, *model.scenarios):
        save_picture(plot.scenario(model, name), Path(folder) / picture_path(model, name))


def write_all(folder: os.PathLike | str) -> Iterator[Path]:
    """Writes the pages of all registered models, and `index.md`, which lists them; one by one."""
    from . import models

    for name in models.names():
        yield write_page(models.get(name), folder)
    yield _document.write(Path(folder) / "index.md", index())


def index() -> str:
    """The page that lists the registered models."""
    from . import models

    rows = []
    for name in models.names():
        model = models.get(name)
        counts = (len(r.fields) for r in (model.Params, model.Scenario, model.State))
        scenarios = len(model.scenarios) + 1
        rows.append([f"[{name}]({name}.md)", _subject(model), *map(str, counts), str(scenarios)])
    header = ["Model", "About", "Parameters", "Series", "Variables", "Scenarios"]
    note = f"These pages are made from the models' declarations by `{COMMAND} docs/models`."
    return _document.markdown([Heading("Models", 1), Text(note), Table(header, rows)])


def picture_path(model: Model, scenario: str | None) -> str:
    """Where the picture of a scenario is, relative to the page."""
    slug = re.sub(r"[^a-z0-9]+", "-", (scenario or "default").lower()).strip("-")
    return f"{PICTURES}/{model.name}-{slug}.png"


def save_picture(figure: Figure, path: Path) -> None:
    """Writes a small PNG: 64 colours are plenty for lines."""
    from PIL import Image

    figure.set_dpi(80)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(64)
    with replacing(path) as scratch:
        image.save(scratch, format="PNG", optimize=True)


# What a page says ---------------------------------------------------------------------------------


def blocks(model: Model, *, one_by_one: bool = False, public: bool = False) -> list[Block]:
    """The page of a model.

    Args:
        model: the model.
        one_by_one: each equation under a heading of its own rather than all in a table.
        public: the names of the torch API rather than the declaration's.
    """
    return [
        Heading(": ".join(filter(None, (model.name, _subject(model)))), 1),
        *([Text(about)] if (about := model.description.partition("\n")[2].strip()) else []),
        *_usage(model),
        *_equations(model, one_by_one, public),
        *_fields("Parameters", model.Params, public, bounds=True),
        *_constraints(model),
        *_fields("Exogenous series", model.Scenario, public, bounds=False),
        *_random_inputs(model),
        *_options(model),
        *_accounts(model),
        *_scenarios(model, public),
    ]


def _usage(model: Model) -> Iterator[Block]:
    from . import models

    if model.name in models.names():
        random = model.random or model.random_start
        key = ", key=jax.random.key(0)" if random else ""
        imports = "import jax\n\n" if random else ""
        imports += "from macrostat_jax import models, simulate\n\n"
        yield Code(f"{imports}path = simulate(models.{model.name}{key})")


def _subject(model: Model) -> str:
    """The title without "Model X: " and its full stop."""
    _, colon, subject = model.title.partition(": ")
    return (subject if colon else model.title).removesuffix(".")


def _equations(model: Model, one_by_one: bool, public: bool) -> Iterator[Block]:
    yield Heading("Variables and equations")
    shown = model.State.fields.values()
    lagged = any("-1}" in f.equation for f in shown)
    lag = " $x_{-1}$ is the value of the period before." if lagged else ""
    name = next(iter(model.State.fields))
    other = f" The torch API writes `{name}` as `{camel_case(name)}`, and so on."
    yield Text(
        f"A run has {model.periods} periods by default; stocks are those at the end of a period."
        f"{lag}{'' if public else other}"
    )
    if one_by_one:
        for field in shown:
            if field.equation:
                words = field.key.replace("_", " ").capitalize()
                yield Heading(f"{words} ({field.ref})" if field.ref else words, 3)
                yield Equation(_equation(field), field.key)
        return
    rows = []
    for field in shown:
        equation = _equation(field) if field.equation else field.symbol
        text = f"${equation}$" if equation else ""
        rows.append([_name(field, public), text, _role(field), _unit(field), field.ref])
    yield _table(["Variable", "Equation", "In the accounts", "Unit", "Source"], rows)


def _equation(field: Field) -> str:
    symbol = field.symbol or rf"\text{{{field.name}}}"
    if _spelled(symbol) == _spelled(field.equation):  # interest, which is named by what it is
        return field.equation
    return f"{symbol} = {field.equation}"


def _spelled(tex: str) -> str:
    return re.sub(r"\\cdot|\s", "", tex)


def _role(field: Field) -> str:
    """What the variable is, and whose."""
    worth = field.instrument == NET_WORTH
    who = {
        "paid by": field.pays,
        "to": field.gets,
        "net debt of" if worth else "asset of": field.asset,
        "net worth of" if worth else "liability of": field.liability,
        "of": field.sector if field.role == "index" else None,
    }
    words = [f"{verb} {_account(account)}" for verb, account in who.items() if account]
    return ", ".join([field.role, *words]).replace(", to ", " to ").replace("index, of", "index of")


def _account(account: str | tuple[str, str]) -> str:
    return account if isinstance(account, str) else f"{account[0]} ({account[1]})"


def _fields(title: str, record: type[Record], public: bool, *, bounds: bool) -> Iterator[Block]:
    if not record.fields:
        return
    yield Heading(title)
    rows = []
    for field in record.fields.values():
        symbol = f"${field.symbol}$" if field.symbol else ""
        row = [_name(field, public), symbol, _values(field.default, field.shape)]
        row += [_interval(field)] if bounds else []
        rows.append([*row, _unit(field), field.ref])
    header = ["Name", "Symbol", "Default", *(["Bounds"] if bounds else []), "Unit", "Source"]
    yield _table(header, rows)


def _constraints(model: Model) -> Iterator[Block]:
    if model.constraints:
        yield Text("Sums that hold in every period; the last term is what the others leave:")
    for constraint in model.constraints:
        terms = []
        for name in constraint.names:
            field = model.Params.fields.get(name)
            symbol = field.symbol if field else ""
            terms.append(symbol or rf"\text{{{name.replace('_', ' ')}}}")
        yield Equation(f"{' + '.join(terms)} = {constraint.total:g}")


def _random_inputs(model: Model) -> Iterator[Block]:
    if model.Noise is None:
        return
    yield Heading("Random inputs")
    yield Text("Drawn anew in every period, from the key of the run.")
    rows = []
    for field in model.Noise.fields.values():
        symbol = f"${field.symbol}$" if field.symbol else ""
        rows.append([_name(field, False), symbol, field.distribution, field.ref])
    yield _table(["Name", "Symbol", "Distribution", "Source"], rows)


def _options(model: Model) -> Iterator[Block]:
    if model.options:
        yield Heading("Options")
        yield Text("How the model is computed, chosen by `model.configure(...)`.")
        yield _table(
            ["Option", "Default"], [[f"`{k}`", f"`{v}`"] for k, v in model.options.items()]
        )


def _accounts(model: Model) -> Iterator[Block]:
    sheet, flows = accounts.balance_sheet(model), accounts.transaction_matrix(model)
    if len(sheet):
        yield Heading("Balance sheet")
        yield Text("Assets are positive, liabilities negative.")
        yield _matrix(sheet)
    if len(flows):
        yield Heading("Transaction matrix")
        yield Text("Sources of funds are positive, uses negative; rows and sectors sum to zero.")
        yield _matrix(flows)


def _matrix(frame: pd.DataFrame) -> Table:
    sectors = [sector for sector, _ in frame.columns]
    header = [
        sector if sectors.count(sector) == 1 else f"{sector} ({account})"
        for sector, account in frame.columns
    ]
    rows = [
        [str(row), *(cell if cell in ("", "0") else f"${cell}$" for cell in line)]
        for row, line in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    return Table(["", *header], rows)


def _scenarios(model: Model, public: bool) -> Iterator[Block]:
    yield Heading("Scenarios")
    yield Heading("Default", 3)
    yield Picture(picture_path(model, None), f"{model.name}, default scenario")
    for name, series in model.scenarios.items():
        yield Heading(name, 3)
        names = [_series(model, key) if public else key for key in series]
        values = zip(names, series.values(), strict=True)
        changes = "; ".join(f"`{name}` {_change(value)}" for name, value in values)
        yield Text(f"From period {model.trigger} (the first is 0): {changes}.")
        yield Picture(picture_path(model, name), f"{model.name}, {name}")


def _series(model: Model, label: str) -> str:
    """The torch API's name of a series or shock."""
    if label in model.Scenario.fields:
        return model.Scenario.fields[label].name
    key, kind = model.split_shock(label)
    return f"{model.Params.fields[key].name}_{kind}"


def _change(value: Any) -> str:
    values = np.asarray(value)
    if values.ndim == 0:
        return f"is {values:g}"
    return f"is {', '.join(f'{v:g}' for v in values.reshape(-1))}, one value a period"


MOST = 12
"""How many numbers a cell of a table can bear."""


def _values(default: Any, shape: tuple[int, ...]) -> str:
    if default is None:
        return "to be given"
    values = np.broadcast_to(np.asarray(default, float), shape)
    if not shape:
        return f"{values:g}"
    if np.all(values == values.flat[0]):
        return f"{values.flat[0]:g} each"
    if values.size > MOST:
        return f"{' × '.join(map(str, shape))} numbers"
    text = np.array2string(values, separator=", ", formatter={"float_kind": lambda v: f"{v:g}"})
    return re.sub(r"\s+", " ", text)


def _interval(field: Field) -> str:
    low, high = field.bounds
    if np.isinf(low) and np.isinf(high):
        return "any"
    if np.isinf(low) or np.isinf(high):
        return f"at least {low:g}" if np.isinf(high) else f"at most {high:g}"
    return f"{low:g} to {high:g}{', both excluded' if field.open else ''}"


def _name(field: Field, public: bool) -> str:
    """The field's own name; the torch API's where it does not follow from that."""
    slots = " × ".join(axis.name for axis in field.axes)
    if public:
        return f"`{field.name}`{f' per {slots}' if slots else ''}"
    other = "" if field.name == camel_case(field.key) else f" (`{field.name}`)"
    return f"`{field.key}`{other}{f' per {slots}' if slots else ''}"


def _unit(field: Field) -> str:
    return "" if field.unit == "." else field.unit


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Without the columns that are empty."""
    rows = list(rows)
    used = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return Table([header[i] for i in used], [[row[i] for i in used] for row in rows])


def main(argv: Sequence[str] | None = None) -> int:
    """The command: writes the pages into a folder and says which."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Writes a page for every model.")
    parser.add_argument("folder", help="for instance docs/models")
    arguments = parser.parse_args(argv)
    import jax

    with jax.enable_x64(True):
        for path in write_all(arguments.folder):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
