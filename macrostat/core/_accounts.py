"""Balance sheets and transaction matrices from the accounting roles of variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    import pandas as pd

STOCKS, FLOWS = ("asset", "liability"), ("inflow", "outflow")
KINDS = (*STOCKS, *FLOWS, "index")
GROUP = "IOSectors"
TOTAL = ("Total", "")


class Entry(NamedTuple):
    """One accounting role of one variable."""

    variable: str
    notation: str
    kind: str
    account: tuple[str, str]
    item: str
    """The row it belongs to: a stock's name without its holder, a flow's whole name."""
    price: tuple[str, str] | None = None
    """Name and notation of the variable that is the price of a unit of a stock."""
    rate: tuple[str, str] | float | None = None
    """Of interest on a stock: the rate, by name and notation, or what a unit pays."""
    tangible: bool = False
    """A stock that nobody owes: it is bought with a flow, not paid for by its change."""


class Cell(NamedTuple):
    sign: str
    variable: str
    notation: str
    price: tuple[str, str] | None = None
    change: bool = False
    rate: tuple[str, str] | float | None = None


class Rows(NamedTuple):
    """The variables' values in a period and in the one before, float64 tensors."""

    now: dict[str, torch.Tensor]
    before: dict[str, torch.Tensor]


Column = tuple[str, str]


class Table(NamedTuple):
    """What stands in each cell: item -> column -> signed variables."""

    columns: list[Column]
    items: dict[str, dict[Column, list[Cell]]]


def as_tuples(role: Any) -> Any:
    """Lists, as JSON has them, back as tuples."""
    return tuple(as_tuples(entry) for entry in role) if isinstance(role, list | tuple) else role


def _roles(info: Mapping[str, Any]) -> list:
    roles = info.get("sfc", [])
    return (
        [roles] if isinstance(roles, tuple) and roles and isinstance(roles[0], str) else list(roles)
    )


def of_kind(info: Mapping[str, Mapping[str, Any]], kinds: tuple[str, ...]) -> dict[str, list]:
    """Name -> roles, of the variables whose first role is of one of the kinds."""
    found = {name: _roles(entry) for name, entry in info.items()}
    return {name: roles for name, roles in found.items() if roles and roles[0][0].lower() in kinds}


def problem(info: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What is wrong with the accounting roles, in words; None where nothing is."""
    for name, entry in info.items():
        roles = entry.get("sfc", [])
        if not isinstance(roles, list | tuple):
            return f"'sfc' of {name!r} is neither a list nor a tuple."
        for role in _roles(entry):
            if not isinstance(role, list | tuple) or len(role) != 2 or not isinstance(role[0], str):
                return f"'sfc' of {name!r} has the entry {role!r}, which is no pair (kind, sector)."
            if role[0].lower() not in KINDS:
                return f"'sfc' of {name!r} has the unknown kind {role[0]!r}; there are {KINDS}."
            sector = role[1]
            if not isinstance(sector, str) and len(sector) != 2:
                return f"'sfc' of {name!r}: {sector!r} is no sector and no (sector, account)."
        if entry.get("price") and entry["price"] not in info:
            return f"'price' of {name!r} is {entry['price']!r}, which is no variable."
    return None


def entries(info: Mapping[str, Mapping[str, Any]], grouped: Iterable[str]) -> list[Entry]:
    """All accounting roles, indices left out; sectors in `grouped` appear as one."""
    found, grouped = [], set(grouped)
    for name, entry in info.items():
        price = entry.get("price")
        price = price and (price, info.get(price, {}).get("notation", price))
        for kind, holder in _roles(entry):
            kind = kind.lower()
            if kind == "index":
                continue
            sector, account = (holder, "Current") if isinstance(holder, str) else holder
            sector = GROUP if sector in grouped else sector
            item = name
            if kind in STOCKS:
                item = name.replace(sector, "").replace(sector.lower(), "")
            notation = entry.get("notation", name)
            found.append(Entry(name, notation, kind, (sector, account), item, price))
    return found


def balance_sheet(found: list[Entry], sectors: list[str]) -> Table:
    """Assets with a plus, liabilities with a minus."""
    items: dict[str, dict[Column, list[Cell]]] = {}
    for entry in found:
        if entry.kind in STOCKS:
            sign = "+" if entry.kind == "asset" else "-"
            cell = Cell(sign, entry.variable, entry.notation, entry.price)
            _put(items, entry.item, entry.account, cell)
    return Table(_columns(items, sectors), items)


def transaction_matrix(found: list[Entry], sectors: list[str]) -> Table:
    """Inflows with a plus, outflows with a minus; then the changes in stocks, except wealth."""
    items: dict[str, dict[Column, list[Cell]]] = {}
    for entry in found:
        if entry.kind in FLOWS:
            sign = "+" if entry.kind == "inflow" else "-"
            cell = Cell(sign, entry.variable, entry.notation, rate=entry.rate)
            _put(items, entry.item, entry.account, cell)
    for entry in found:
        wealth = "wealth" in entry.variable.lower()
        if entry.kind in STOCKS and not wealth and not entry.tangible:
            sign = "-" if entry.kind == "asset" else "+"
            cell = Cell(sign, entry.variable, entry.notation, entry.price, change=True)
            _put(items, f"Change in {entry.item}", entry.account, cell)
    return Table(_columns(items, sectors), items)


def _put(items: dict[str, Any], item: str, column: Column, cell: Cell) -> None:
    items.setdefault(item, {}).setdefault(column, []).append(cell)


def _columns(items: Mapping[str, Mapping[Column, Any]], sectors: list[str]) -> list[Column]:
    """The columns in the order of the sectors, each of which has one; other sectors after them."""
    found = dict.fromkeys(column for cells in items.values() for column in cells)
    order = [*sectors, *dict.fromkeys(s for s, _ in found if s not in sectors)]
    columns = []
    for sector in order:
        columns += [c for c in found if c[0] == sector] or [(sector, "Current")]
    return columns


def _frame(table: Table, cell: Callable[[list[Cell]], Any], spaced: bool) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        [[cell(row.get(column, [])) for column in table.columns] for row in table.items.values()],
        index=[_spaced(item) if spaced else item for item in table.items],
        columns=pd.MultiIndex.from_arrays(
            [[sector for sector, _ in table.columns], [account for _, account in table.columns]]
        ),
    )


def in_symbols(
    table: Table, mathfmt: str, spaced: bool, *, total_row: bool = False
) -> pd.DataFrame:
    """The table in notation; empty cells are empty strings."""
    marks = {"sphinx": (":math:`", "`"), "myst": ("$", "$"), "latex": ("$", "$")}
    if mathfmt not in marks:
        raise ValueError(f"Invalid math format: {mathfmt}. There are: {', '.join(marks)}.")
    before, after = marks[mathfmt]
    frame = _frame(table, lambda cells: _symbols(cells, before, after), spaced)
    zero = f"{before}0{after}"
    frame[TOTAL] = zero
    if total_row:
        frame.loc["Total"] = zero
    return frame


def _symbols(cells: list[Cell], before: str, after: str) -> str:
    text = ""
    for cell in cells:
        if cell.rate is not None:  # on what there was a period before
            rate = cell.rate[1] if isinstance(cell.rate, tuple) else f"{cell.rate:g}"
            text += cell.sign + rf"{rate}\cdot {cell.notation}".replace("(t)", "(t-1)")
            continue
        price = rf"{cell.price[1]}\cdot " if cell.price else ""
        text += cell.sign + price + (r"\Delta " if cell.change else "") + cell.notation
    return f"{before}{text}{after}" if text else ""


def in_numbers(table: Table, rows: Rows, spaced: bool, *, total_row: bool = False) -> pd.DataFrame:
    """The table with values; empty cells are 0."""

    def number(cell: Cell) -> float:
        value = rows.now[cell.variable]
        if cell.rate is not None:
            rate = rows.before[cell.rate[0]] if isinstance(cell.rate, tuple) else cell.rate
            value = rate * rows.before[cell.variable]
        value = value - rows.before[cell.variable] if cell.change else value
        value = value * rows.now[cell.price[0]] if cell.price else value
        return float(value.sum()) if cell.sign == "+" else -float(value.sum())

    frame = _frame(table, lambda cells: sum(map(number, cells)), spaced).astype(float)
    frame[TOTAL] = frame.sum(axis=1)
    if total_row:
        frame.loc["Total"] = frame.sum(axis=0)
    return frame


def imbalances(
    found: list[Entry], timeseries: Mapping[str, torch.Tensor]
) -> dict[str, tuple[float, float]]:
    """Items both held and owed whose assets and liabilities differ: item -> (gap, scale)."""
    items: dict[str, list[Entry]] = {}
    for entry in found:
        if entry.kind in STOCKS:
            items.setdefault(entry.item, []).append(entry)
    worst = {}
    for item, members in items.items():
        if {member.kind for member in members} != set(STOCKS):
            continue
        paths = [timeseries[member.variable].detach() for member in members]
        prices = [m.price and timeseries[m.price[0]].detach().double() for m in members]
        worths = [
            p.double() if q is None else p.double() * q for p, q in zip(paths, prices, strict=True)
        ]
        totals = torch.stack([worth.reshape(len(worth), -1).sum(dim=1) for worth in worths])
        signs = totals.new_tensor([1.0 if m.kind == "asset" else -1.0 for m in members])
        gap = float((signs @ totals).abs().max())
        scale = float(totals.abs().max())
        # Rounding accumulates over the periods, at worst in proportion to their number.
        if gap > len(paths[0]) * 4 * torch.finfo(paths[0].dtype).eps * max(scale, 1.0):
            worst[item] = gap, scale
    return worst


def _spaced(name: str) -> str:
    return re.sub(r"(?<=\S)([A-Z])", r" \1", name)
