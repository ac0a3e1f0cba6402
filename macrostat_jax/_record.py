"""Records: the parameters, exogenous series and variables of a model, declared once.

A record is an immutable dataclass whose fields are arrays, registered as a pytree. What an economist
knows of a field (symbol, unit, bounds, equation, accounting role) stands beside it, and everything
else in the library (tables, checks, pictures, names) is derived from there.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Self,
    TypeAlias,
    dataclass_transform,
)

import jax
import jax.core
import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

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
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.labels and self.size not in (0, len(self.labels)):
            raise ValueError(
                f"Axis {self.name!r}: size {self.size} contradicts its {len(self.labels)} labels."
            )
        object.__setattr__(self, "size", len(self.labels) or self.size)
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
        a if isinstance(a, Axis) else Axis(f"dim_{i}", size=a) for i, a in enumerate(shape)
    )


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
    """
    return Field(
        "param",
        name=name,
        symbol=symbol,
        unit=unit,
        default=default,
        bounds=(float(bounds[0]), float(bounds[1])),
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


@dataclass_transform(
    kw_only_default=True,
    frozen_default=True,
    eq_default=False,
    field_specifiers=(param, exogenous, index, flow, stock, noise),
)
class Record:
    """Base of a model's `Params`, `Scenario`, `State` and `Noise`. Subclasses only declare fields.

    A field of declared shape `s` holds an array of shape `s`; in a path, which `simulate` returns,
    it holds `(T, *s)`, and in a batch `(T, B, *s)`.
    """

    fields: ClassVar[dict[str, Field]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        inherited = {key: spec for base in reversed(cls.__mro__[1:]) for key, spec in _specs(base)}
        own: dict[str, Field] = {}
        for key, annotation in inspect.get_annotations(cls).items():
            if str(annotation).startswith(("ClassVar", "typing.ClassVar")):
                continue
            spec = cls.__dict__.get(key)
            if not isinstance(spec, Field):
                raise TypeError(
                    f"{cls.__qualname__}.{key}: declare it with param, exogenous, index, flow, "
                    f"stock or noise, not {type(spec).__name__}."
                )
            if hasattr(Record, key):
                raise TypeError(f"{cls.__qualname__}.{key}: the name is a method of Record.")
            own[key] = dataclasses.replace(spec, key=key, name=spec.name or camel_case(key))
            setattr(cls, key, dataclasses.field())
        cls.fields = {**inherited, **own}
        names = [spec.name for spec in cls.fields.values()]
        for name in names:
            if names.count(name) > 1:
                raise TypeError(f"{cls.__qualname__}: two fields have the public name {name!r}.")
        dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)(cls)
        jax.tree_util.register_dataclass(cls, data_fields=list(cls.fields), meta_fields=[])

    @classmethod
    def filled(cls, value: Any) -> Self:
        """A record in which every field is the number `value`, which fills whatever shape it has."""
        return cls(**dict.fromkeys(cls.fields, value))

    @classmethod
    def resized(cls, sizes: dict[str, Any]) -> type[Self]:
        """The same record with other axes: axis name -> size or labels.

        A default that no longer fits becomes None.
        """
        fields = {}
        for key, field in cls.fields.items():
            axes = tuple(_resized(axis, sizes.get(axis.name)) for axis in field.axes)
            resized = dataclasses.replace(field, axes=axes)
            try:
                np.broadcast_to(field.default, resized.shape)
            except ValueError:
                resized = dataclasses.replace(resized, default=None)
            fields[key] = resized
        about = {"__module__": cls.__module__, "__doc__": cls.__doc__}
        variant: Any = type(cls.__name__, (cls,), about)
        variant.fields = fields
        return variant

    @classmethod
    def key_of(cls, name: str) -> str:
        """The field that `name` means: its own name, or its public name.

        Raises:
            KeyError: with the list of what there is.
        """
        if name in cls.fields:
            return name
        for key, spec in cls.fields.items():
            if spec.name == name:
                return key
        raise KeyError(f"{name!r} is not in {cls.__module__}.{cls.__qualname__}: {_listing(cls)}.")

    def replace(self, **changes: Any) -> Self:
        """The same record with some fields changed; an unknown name is a `KeyError`."""
        given = {self.key_of(name): value for name, value in changes.items()}
        return type(self)(**{**{key: getattr(self, key) for key in self.fields}, **given})

    def to_dict(self) -> dict[str, Any]:
        """Public name -> value, in the declared order."""
        return {spec.name: getattr(self, key) for key, spec in self.fields.items()}

    def to_pandas(self) -> pd.DataFrame:
        """A path as a table: a row per period, a column per variable, or per sector of one.

        Raises:
            ValueError: a single period, or a batch of paths, of which `path[:, i]` is one.
        """
        from ._tables import to_pandas

        return to_pandas(self)

    def to_xarray(self) -> xr.Dataset:
        """A path, or a batch of them, as a dataset with the dimensions (time, [batch,] axes of the field)
        and with units, symbols and equations.

        Raises:
            ValueError: a single period.
        """
        from ._tables import to_xarray

        return to_xarray(self)

    def __getitem__(self, item: Any) -> Any:
        """`record["HouseholdMoneyStock"]` is one field; `path[-1]`, `path[5:9]` are periods."""
        if isinstance(item, str):
            return getattr(self, self.key_of(item))
        return jax.tree.map(lambda leaf: leaf[item], self)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(
            f"{type(self).__qualname__} has named fields: use to_dict() to go over them."
        )

    def __repr__(self) -> str:
        rows = [f"    {key} = {_short(getattr(self, key))}" for key in self.fields]
        return "\n".join([f"{type(self).__qualname__}(", *rows, ")"]) if rows else "()"


def _resized(axis: Axis, to: Any) -> Axis:
    if to is None:
        return axis
    return Axis(axis.name, labels=to) if isinstance(to, tuple) else Axis(axis.name, size=to)


def _specs(base: type) -> list[tuple[str, Field]]:
    return list(base.fields.items()) if isinstance(base, type) and issubclass(base, Record) else []


def _listing(cls: type[Record]) -> str:
    return ", ".join(cls.fields) or "it has no fields"


def _short(value: Any) -> str:
    if isinstance(value, jax.core.Tracer):
        return str(value)
    shape = np.shape(value)
    if not shape:
        return f"{value:.6g}" if isinstance(value, float) else f"{value}"
    if math.prod(shape) > 6:
        return f"{getattr(value, 'dtype', type(value).__name__)}{list(shape)}"
    return np.array2string(np.asarray(value), precision=6)
