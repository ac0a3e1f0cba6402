"""Fields of records: what is declared beside a parameter, a series, a variable or a random input."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias

import jax
import numpy as np

Scalar: TypeAlias = jax.Array
Vector: TypeAlias = jax.Array
Matrix: TypeAlias = jax.Array

Role = Literal["param", "exogenous", "index", "flow", "stock", "noise"]
Account: TypeAlias = str | tuple[str, str]
"""A sector, or a sector and one of its accounts: `("CentralBank", "Capital")`."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """One dimension of a vector or matrix field: sectors by label, or agents by number.

    Args:
        name: what the dimension counts, for instance `"sector"`.
        labels: one label per slot; or
        size: how many slots, when they have no names.
    """

    name: str
    labels: tuple[str, ...] = ()
    size: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.labels, str) or not isinstance(self.labels, Iterable):
            raise TypeError(
                f"Axis {self.name!r}: labels are a sequence of names, not {self.labels!r}; a size goes "
                "by its name, size=3."
            )
        if isinstance(self.size, bool) or not isinstance(self.size, int | np.integer):
            raise TypeError(f"Axis {self.name!r}: the size is an integer, not {self.size!r}.")
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.labels and self.size not in (0, len(self.labels)):
            raise ValueError(
                f"Axis {self.name!r}: size {self.size} contradicts its {len(self.labels)} labels."
            )
        if len(set(self.labels)) < len(self.labels):
            twice = next(one for one in self.labels if self.labels.count(one) > 1)
            raise ValueError(f"Axis {self.name!r}: two slots have the label {twice!r}.")
        object.__setattr__(self, "size", len(self.labels) or int(self.size))
        if self.size < 1:
            raise ValueError(f"Axis {self.name!r}: give its labels, or a size of at least 1.")

    @property
    def slots(self) -> tuple[str, ...]:
        """The labels, or the numbers 0, 1, 2, ... as text."""
        return self.labels or tuple(str(i) for i in range(self.size))


@dataclasses.dataclass(frozen=True)
class Field:
    """What is declared beside one field of a record. Made by `param`, `exogenous`, `index`, ..."""

    role: Role
    key: str = ""
    name: str = ""
    symbol: str = ""
    unit: str = ""
    default: Any = None
    bounds: tuple[float, float] = (-math.inf, math.inf)
    open: bool = False
    equation: str = ""
    ref: str = ""
    axes: tuple[Axis, ...] = ()
    pays: Account | None = None
    gets: Account | None = None
    asset: Account | None = None
    liability: Account | None = None
    instrument: str = ""
    price: str = ""
    interest: str | float = ""
    sector: str = ""
    received_from: Account | None = None
    unlimited: bool = False
    draw: Callable[..., Any] | None = None
    distribution: str = ""
    packed: Any = None
    """Of the weights of a pytree: what packs and unpacks them (`Packed`)."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def interval(self) -> str:
        """The bounds as text: `[0, 1]`, or `(0, 1)` where they are open."""
        low, high = self.bounds
        return f"({low:g}, {high:g})" if self.open else f"[{low:g}, {high:g}]"

    @property
    def extremes(self) -> tuple[float, float]:
        """The least and the greatest admissible number, in float64."""
        low, high = self.bounds
        return (math.nextafter(low, high), math.nextafter(high, low)) if self.open else (low, high)

    def within(self, values: np.ndarray) -> bool:
        """Do all values lie in the bounds? NaN does not."""
        low, high = self.bounds
        closed = (low <= values) & (values <= high)
        return bool(np.all((low < values) & (values < high) if self.open else closed))


NET_WORTH = "Net worth"


def _open_uniform(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Uniform on (0, 1): a logarithm of it is finite."""
    return jax.random.uniform(key, shape, dtype, minval=jax.numpy.finfo(dtype).tiny)


DISTRIBUTIONS: dict[str, Callable[..., Any]] = {
    "uniform": _open_uniform,
    "normal": jax.random.normal,
    "logistic": jax.random.logistic,
    "gumbel": jax.random.gumbel,
    "exponential": jax.random.exponential,
}


def _axes(shape: Any) -> tuple[Axis, ...]:
    shape = shape if isinstance(shape, tuple) else (shape,)
    return tuple(
        a if isinstance(a, Axis) else Axis(f"{UNNAMED}{i}", size=a) for i, a in enumerate(shape)
    )


UNNAMED = "dim_"
"""How the names of dimensions begin that are declared by a bare size: two of them need not be the same."""


def named_axes(fields: Iterable[Field]) -> list[Axis]:
    """The dimensions of fields that have a name of their own."""
    return [axis for f in fields for axis in f.axes if not axis.name.startswith(UNNAMED)]


def _interval(bounds: Any) -> tuple[float, float]:
    try:
        low, high = map(float, bounds)
    except (TypeError, ValueError):
        raise TypeError(
            f"bounds are two numbers, (low, high), of which either may be infinite (math.inf); not "
            f"{bounds!r}."
        ) from None
    return low, high


def param(
    default: Any,
    *,
    symbol: str = "",
    unit: str = "",
    bounds: tuple[float, float] = (-math.inf, math.inf),
    open: bool = False,
    shape: Any = (),
    ref: str = "",
    name: str = "",
) -> Any:
    """A parameter: a number (or an array of `shape`) that stays the same over a run.

    Args:
        default: its value where the user gives none; a number fills the whole shape.
        symbol: LaTeX, as in the source.
        unit: for instance `"share of income"`.
        bounds: the closed interval of admissible values; the default must lie in it.
        open: the bounds themselves are not admissible.
        shape: `()`, an `Axis`, or a tuple of axes or sizes.
        ref: equation or table of the source.
        name: the public name, where it is not the field's name in CamelCase.

    Raises:
        TypeError: bounds that are not two numbers, or a size that is no integer.
    """
    return Field(
        "param",
        name=name,
        symbol=symbol,
        unit=unit,
        default=default,
        bounds=_interval(bounds),
        open=open,
        ref=ref,
        axes=_axes(shape),
    )


def exogenous(
    default: Any,
    *,
    symbol: str = "",
    unit: str = "",
    shape: Any = (),
    ref: str = "",
    name: str = "",
) -> Any:
    """A series given from outside the model, one value (of `shape`) per period."""
    return Field(
        "exogenous",
        name=name,
        symbol=symbol,
        unit=unit,
        default=default,
        ref=ref,
        axes=_axes(shape),
    )


def noise(
    distribution: str | Callable[..., Any],
    *,
    symbol: str = "",
    shape: Any = (),
    ref: str = "",
    name: str = "",
) -> Any:
    """A random input, drawn anew in every period and independent of everything else.

    Args:
        distribution: `"uniform"` (on the open interval (0, 1)), `"normal"`, `"logistic"`, `"gumbel"`,
            `"exponential"` (all standard), or a function `(key, shape, dtype) -> array`. Parameters
            do not belong here: scale and shift the draw in the step, where derivatives see them.
        shape: `()`, an `Axis`, or a tuple of axes or sizes: one draw per agent, for instance.

    Raises:
        ValueError: an unknown distribution.
    """
    label = str(getattr(distribution, "__name__", distribution))
    if not callable(distribution):
        if distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"There is no distribution {distribution!r}: use one of {', '.join(DISTRIBUTIONS)}, or "
                "a function (key, shape, dtype) -> array."
            )
        distribution = DISTRIBUTIONS[distribution]
    return Field(
        "noise",
        name=name,
        symbol=symbol,
        ref=ref,
        axes=_axes(shape),
        draw=distribution,
        distribution=label,
    )


def index(
    symbol: str,
    equation: str = "",
    *,
    sector: str = "Macroeconomy",
    unlimited: bool = False,
    unit: str = "",
    shape: Any = (),
    ref: str = "",
    name: str = "",
) -> Any:
    """A variable without a place in the accounts: a rate, an expectation, a demand of `sector`.

    `equation` is the right-hand side in LaTeX, in the declared symbols; lags are written
    `H_{h,-1}` or `r_{-1}`. `unlimited` says that infinity is one of its values: a capacity that
    nothing limits.
    """
    return Field(
        "index",
        name=name,
        symbol=symbol,
        unit=unit,
        equation=equation,
        ref=ref,
        axes=_axes(shape),
        sector=sector,
        unlimited=unlimited,
    )


def flow(
    symbol: str,
    equation: str = "",
    *,
    pays: Account,
    gets: Account,
    received_from: Account | None = None,
    unit: str = "",
    shape: Any = (),
    ref: str = "",
    name: str = "",
) -> Any:
    """A payment per period from the sector `pays` to the sector `gets`.

    `received_from` says from whom the payer got the same amount in the same period, where that is
    no variable of its own: interest that a central bank passes on as its profits.
    """
    return Field(
        "flow",
        name=name,
        symbol=symbol,
        unit=unit,
        equation=equation,
        ref=ref,
        axes=_axes(shape),
        pays=pays,
        gets=gets,
        received_from=received_from,
    )


def stock(
    symbol: str,
    equation: str = "",
    *,
    asset: Account | None = None,
    liability: Account | None = None,
    instrument: str = "",
    price: str = "",
    interest: str | float = "",
    unit: str = "",
    shape: Any = (),
    ref: str = "",
    name: str = "",
) -> Any:
    """A stock at the end of the period: somebody's asset, somebody's liability, or both.

    `instrument` names the row of the balance sheet that it shares with the stocks of the other
    holders of the same thing ("Money", "Bills"); all stocks of one instrument sum to zero.
    `NET_WORTH` is the balancing row: it closes the balance sheet and is no claim on anybody.

    `price` names the variable that is the price of a unit, where the stock is a number of bonds,
    shares or machines: the accounts then hold price times quantity, a purchase is the price times the
    change of the quantity, and the rest of the change in value is a capital gain, which is no payment.

    `interest` is what a unit of the stock pays its holder in the next period, where no flow says so: a
    number (1.0 for bonds that pay 1), or the variable that is the rate, of which the value a period
    ago counts. All stocks of one instrument say the same.
    """
    return Field(
        "stock",
        name=name,
        symbol=symbol,
        unit=unit,
        equation=equation,
        ref=ref,
        axes=_axes(shape),
        asset=asset,
        liability=liability,
        instrument=instrument,
        price=price,
        interest=interest,
    )


def camel_case(key: str) -> str:
    """The public name of a field: `household_money_stock` is `HouseholdMoneyStock`."""
    return "".join(part[:1].upper() + part[1:] for part in key.split("_"))
