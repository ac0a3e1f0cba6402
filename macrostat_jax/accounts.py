"""The accounts of a model: its balance sheet, its transaction matrix, and what they leave over.

Everything is derived from the roles that the variables are declared with. Godley and Lavoie (2007),
*Monetary Economics*, sections 1.3 and 1.4: everything comes from somewhere and goes somewhere, so
that every row and every column of the two matrices sums to zero. That holds for numbers and, being
linear, for their derivatives. `residuals` gives the sums, by which a model is checked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ._model import Model
from ._record import NET_WORTH, Account, Field, Record

if TYPE_CHECKING:
    import pandas as pd

CURRENT = "Current"
"""The account of a sector that is named without one."""


class Entry(NamedTuple):
    """A variable in one cell of a matrix."""

    row: str
    sector: str
    account: str
    sign: int
    field: Field

    @property
    def column(self) -> tuple[str, str]:
        return self.sector, self.account


def _column(account: Account) -> tuple[str, str]:
    return (account, CURRENT) if isinstance(account, str) else account


def payments(model: Model) -> list[Entry]:
    """The flows: each is an outflow (-1) of one sector and an inflow (+1) of another."""
    entries = []
    for field in model.State.fields.values():
        if field.role != "flow":
            continue
        assert field.pays is not None and field.gets is not None  # `flow` asks for both
        entries.append(Entry(field.name, *_column(field.pays), -1, field))
        entries.append(Entry(field.name, *_column(field.gets), 1, field))
        if field.received_from is not None:
            row = f"{field.name} received"
            entries.append(Entry(row, *_column(field.received_from), -1, field))
            entries.append(Entry(row, *_column(field.pays), 1, field))
    return entries


def holdings(model: Model) -> list[Entry]:
    """The stocks of the balance sheet: +1 for an asset, -1 for a liability of its column."""
    entries = []
    for field in model.State.fields.values():
        if field.role != "stock":
            continue
        row = field.instrument or field.name
        if field.asset is not None:
            entries.append(Entry(row, *_column(field.asset), 1, field))
        if field.liability is not None:
            entries.append(Entry(row, *_column(field.liability), -1, field))
    return entries


def claims(model: Model) -> list[Entry]:
    """The holdings that somebody owes to somebody: neither net worth nor tangible assets.

    A stock of machines is nobody's liability. It is bought with a flow, so its change is no further
    use of funds. The purchase of bonds or shares is, at their price: what their price does to those
    held before is a capital gain.
    """
    entries = [entry for entry in holdings(model) if entry.row != NET_WORTH]
    owed = {entry.row for entry in entries if entry.sign < 0}
    return [entry for entry in entries if entry.row in owed]


def interest(model: Model) -> list[Entry]:
    """What stocks pay in a period: +1 for those who held them before, -1 for those who owed them."""
    bearing = [entry for entry in claims(model) if entry.field.interest != ""]
    return [entry._replace(row=f"Interest on {entry.row}") for entry in bearing]


def has_flows(model: Model) -> bool:
    """Whether the model declares what is paid: of one that declares only who holds what, what changes
    the holdings is not known, and there is a balance sheet and no matrix of transactions."""
    return bool(payments(model) or interest(model))


def balance_sheet(model: Model, state: Record | None = None) -> pd.DataFrame:
    """Who holds what, and who owes it.

    Args:
        model: the model.
        state: the state of one period, for instance `path[-1]`. Without it, the cells are symbols.

    Returns:
        One row per instrument; columns (sector, account) and a total. Assets are positive,
        liabilities negative. The totals are numbers where `state` is given; otherwise "0" where the
        accounts ask for it: of an instrument that somebody owes, and of a sector whose net worth is
        declared.
    """
    entries = holdings(model)
    if state is None:
        owed = {entry.row for entry in entries if entry.sign < 0}
        closed = {entry.sector for entry in entries if entry.row == NET_WORTH}
        return _symbols(entries, owed, closed, {e: _worth_symbol(model, e.field) for e in entries})
    return _numbers(entries, {entry: _period(model, entry.field, state) for entry in entries})


def transaction_matrix(
    model: Model, state: Record | None = None, prior: Record | None = None
) -> pd.DataFrame:
    """Who pays whom in a period, and how that changes what they hold.

    Args:
        model: the model.
        state: the state of one period, for instance `path[5]`. Without it, the cells are symbols.
        prior: the state of the period before, `path[4]`; needed with `state`.

    Returns:
        One row per flow, per interest on an instrument and per change of one; columns (sector,
        account) and a total. Sources of funds (receipts, new liabilities) are positive, uses
        (payments, new assets) negative, so that all rows and all sectors sum to zero. Net worth is
        not part of it, nor are tangible assets. Empty for a model that declares no flows.

    Raises:
        TypeError: `state` without `prior`.
    """
    flows, paid, owed = payments(model), interest(model), claims(model)
    changes = [e._replace(row=f"Change in {e.row}", sign=-e.sign) for e in owed]
    if not has_flows(model):
        changes = []
    entries = [*flows, *paid, *changes]
    if state is None and prior is None:
        rows = {entry.row for entry in entries}
        texts = {e: _worth_symbol(model, e.field) for e in flows}
        texts |= {e: _interest_symbol(model, e.field) for e in paid}
        texts |= {e: _worth_symbol(model, e.field, r"\Delta ") for e in changes}
        return _symbols(entries, rows, {entry.sector for entry in entries}, texts)
    if state is None or prior is None:
        raise TypeError(
            f"{model.name}: the transaction matrix of a period needs its state and the one before."
        )
    values = {entry: _period(model, entry.field, state) for entry in [*flows, *changes]}
    for entry in changes:
        before = _period(model, entry.field, prior, priced_in=state)
        values[entry] = values[entry] - before
    values |= {entry: float(_interest(entry.field, prior)) for entry in paid}
    return _numbers(entries, values)


def residuals(
    model: Model, path: Record, initial: Record | None = None, *, relative: bool = False
) -> dict[str, Any]:
    """What the accounts of a run leave over: zero, but for rounding, in a consistent model.

    Made of JAX operations, so it can be differentiated. In a model whose stocks have no price and
    bear no interest it is linear in its records, and may be given a path of tangents in place of a path.

    Args:
        model: the model.
        path: what `simulate` returned: fields of shape (T, *shape), or (T, B, *shape) for a batch.
        initial: the state before the first period. Without it, the flows of that period cannot be
            checked, and the sectors start with the second period.
        relative: divide by the largest entry of the same sum over the run.

    Returns:
        Label -> array of shape (T,), or (T, B) for a batch; (T - 1,) for sectors without `initial`:

        - `"Instrument Money"`: all assets less all liabilities of one instrument, for each that
          somebody owes and that is held in more than one variable. (One of them is the redundant
          equation of the model.)
        - `"Sector Household"`: inflows less outflows, less new assets, plus new liabilities, in a
          model that declares flows.
        - `"Net worth Household"`: assets less liabilities less net worth, where it is declared.
    """
    sums: dict[str, list[tuple[int, Any]]] = {}
    owed = claims(model)
    for entry in owed:
        if len({other.field.key for other in owed if other.row == entry.row}) > 1:
            sums.setdefault(f"Instrument {entry.row}", []).append(
                (entry.sign, _total(entry.field, path))
            )
    drop = 0 if initial is not None else 1
    for entry in payments(model):
        value = _total(entry.field, path)[drop:]
        sums.setdefault(f"Sector {entry.sector}", []).append((entry.sign, value))
    for entry in interest(model):
        value = _interest(entry.field, _before(entry.field, path, initial))
        sums.setdefault(f"Sector {entry.sector}", []).append((entry.sign, value))
    for entry in owed if has_flows(model) else ():
        change = _change(entry.field, path, initial)
        sums.setdefault(f"Sector {entry.sector}", []).append((-entry.sign, change))
    sheet = holdings(model)
    closed = {entry.sector for entry in sheet if entry.row == NET_WORTH}
    for entry in sheet:
        if entry.sector in closed:
            sums.setdefault(f"Net worth {entry.sector}", []).append(
                (entry.sign, _total(entry.field, path))
            )
    return {label: _sum(terms, relative) for label, terms in sums.items()}


def _sum(terms: list[tuple[int, Any]], relative: bool) -> Any:
    result = sum((sign * value for sign, value in terms[1:]), terms[0][0] * terms[0][1])
    if not relative:
        return result
    sizes = jnp.stack([jnp.abs(value) for _, value in terms])
    largest = jnp.max(sizes, axis=(0, 1), keepdims=True)[0]
    return result / jnp.where(largest == 0, 1, largest)


def _total(field: Field, record: Record, priced_in: Record | None = None) -> Any:
    """The field's worth, summed over its own axes (the agents or industries that hold it).

    Quantities that have a price are worth what they cost in `priced_in`, by default in `record`.
    """
    value = _filled(field, record)
    if field.price:
        priced_in = record if priced_in is None else priced_in
        spec = priced_in.fields[field.price]
        price = _filled(spec, priced_in)
        missing = len(field.shape) - len(spec.shape)  # one price for all slots
        value = value * price.reshape(*price.shape, *[1] * missing)
    return value.sum(axis=tuple(range(-len(field.shape), 0))) if field.shape else value


def _filled(field: Field, record: Record) -> Any:
    if getattr(record, field.key) is None:
        raise ValueError(f"The accounts need {field.key!r}, of which this path holds no record.")
    value = jnp.asarray(getattr(record, field.key))
    # A number, as `State.filled(0.0)` gives, fills the field's shape.
    return jnp.broadcast_to(value, field.shape) if value.shape == () else value


def _change(field: Field, path: Record, initial: Record | None) -> Any:
    """The purchases of a period: the change in value, less what the price did to the old holdings."""
    now = path[1:] if initial is None else path
    return _total(field, now) - _total(field, _before(field, path, initial), now)


def _interest(field: Field, prior: Record) -> Any:
    """What the stocks of `prior` pay in the period after it: their rate is to them like a price."""
    if isinstance(field.interest, str):
        return _total(dataclasses.replace(field, price=field.interest), prior)
    return field.interest * _total(dataclasses.replace(field, price=""), prior)


def _before(field: Field, path: Record, initial: Record | None) -> Record:
    """The path a period earlier, as far as the field and its rate of interest are concerned."""
    if initial is None:
        return path[:-1]
    earlier = {}
    for spec in (field, path.fields.get(str(field.interest))):
        if spec is not None:
            values = _filled(spec, path)
            first = jnp.broadcast_to(_filled(spec, initial).astype(values.dtype), values.shape[1:])
            earlier[spec.key] = jnp.concatenate([first[None], values[:-1]])
    return path.replace(**earlier)


def _period(model: Model, field: Field, state: Record, *, priced_in: Record | None = None) -> float:
    shape = np.shape(getattr(state, field.key))
    if shape != field.shape:
        raise ValueError(
            f"{model.name}: a matrix shows one period of one run, for instance path[-1]; "
            f"{field.key!r} has the shape {shape}, of one period it is {field.shape}."
        )
    return float(_total(field, state, priced_in))


def _frame(entries: list[Entry]) -> tuple[list[str], list[tuple[str, str]]]:
    """Rows in the order of their declaration; columns by sector, in the order of theirs."""
    sectors = _unique(entry.sector for entry in entries)
    columns = _unique(entry.column for entry in entries)
    return _unique(entry.row for entry in entries), [
        column for sector in sectors for column in columns if column[0] == sector
    ]


def _unique(items: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(items))


def _worth_symbol(model: Model, field: Field, mark: str = "") -> str:
    price = f"{_symbol(model.State.fields[field.price])} " if field.price else ""
    return f"{price}{mark}{_symbol(field)}"


def _interest_symbol(model: Model, field: Field) -> str:
    rate = field.interest
    text = _symbol(model.State.fields[rate]) if isinstance(rate, str) else f"{rate:g}"
    return f"({text} {_symbol(field)})_{{-1}}"


def _symbol(field: Field) -> str:
    return field.symbol or field.name


def _symbols(
    entries: list[Entry], rows: set[str], sectors: set[str], texts: dict[Entry, str]
) -> pd.DataFrame:
    """Cells like `-C_s`; totals are "0" for the `rows` and `sectors` that must sum to zero."""
    index, columns = _frame(entries)
    cells = dict.fromkeys(((row, column) for row in index for column in columns), "")
    for entry in entries:
        cells[entry.row, entry.column] += f"{'+' if entry.sign > 0 else '-'}{texts[entry]}"
    table = [[cells[row, column] for column in columns] for row in index]
    for row, line in zip(index, table, strict=True):
        line.append("0" if row in rows else "".join(line))
    totals = ["0" if column[0] in sectors else "" for column in columns]
    return _table(index, columns, [*table, [*totals, ""]] if index else [])


def _numbers(entries: list[Entry], values: dict[Entry, float]) -> pd.DataFrame:
    index, columns = _frame(entries)
    table = np.zeros((len(index) + 1, len(columns) + 1))
    for entry in entries:
        at = index.index(entry.row), columns.index(entry.column)
        table[at] += entry.sign * values[entry]
    table[:-1, -1] = table[:-1, :-1].sum(axis=1)
    table[-1] = table[:-1].sum(axis=0)
    return _table(index, columns, table if index else [])


def _table(index: list[str], columns: list[tuple[str, str]], table: Any) -> pd.DataFrame:
    import pandas as pd

    header = pd.MultiIndex.from_tuples([*columns, ("Total", "")], names=["sector", "account"])
    return pd.DataFrame(table, index=[*index, "Total"] if index else [], columns=header)
