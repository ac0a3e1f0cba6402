"""Records: the parameters, exogenous series and variables of a model, declared once.

A record is an immutable dataclass whose fields are arrays, registered as a pytree. What an economist
knows of a field (symbol, unit, bounds, equation, accounting role) stands beside it, and everything
else in the library (tables, checks, pictures, names) is derived from there.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import jax
import jax.core
import numpy as np

from ._fields import DISTRIBUTIONS as DISTRIBUTIONS
from ._fields import NET_WORTH as NET_WORTH
from ._fields import Account as Account
from ._fields import Axis as Axis
from ._fields import Field as Field
from ._fields import Matrix as Matrix
from ._fields import Scalar as Scalar
from ._fields import Vector as Vector
from ._fields import camel_case as camel_case
from ._fields import exogenous as exogenous
from ._fields import flow as flow
from ._fields import index as index
from ._fields import noise as noise
from ._fields import param as param
from ._fields import stock as stock

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


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
    _by_sizes: ClassVar[dict[Any, Any]] = {}
    """The classes that `resized` has made of this one."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        inherited = {key: spec for base in reversed(cls.__mro__[1:]) for key, spec in _specs(base)}
        own: dict[str, Field] = {}
        annotations = inspect.get_annotations(cls)
        for key, spec in vars(cls).items():
            if isinstance(spec, Field) and key not in annotations:
                raise TypeError(
                    f"{cls.__qualname__}.{key}: it is no field without its type: write "
                    f"{key}: Scalar = {spec.role}(...) (or Vector, or Matrix)."
                )
        for key, annotation in annotations.items():
            if str(annotation).startswith(("ClassVar", "typing.ClassVar")):
                continue
            spec = cls.__dict__.get(key)
            if not isinstance(spec, Field):
                raise TypeError(
                    f"{cls.__qualname__}.{key}: declare it with param, exogenous, index, flow, "
                    f"stock or noise, not {type(spec).__name__}."
                )
            if hasattr(Record, key):
                what = "a method" if callable(getattr(Record, key)) else "an attribute"
                raise TypeError(f"{cls.__qualname__}.{key}: the name is {what} of Record.")
            own[key] = dataclasses.replace(spec, key=key, name=spec.name or camel_case(key))
            setattr(cls, key, dataclasses.field())
        cls.fields, cls._by_sizes = {**inherited, **own}, {}
        names = [spec.name for spec in cls.fields.values()]
        for key, name in zip(cls.fields, names, strict=True):
            if names.count(name) > 1:
                raise TypeError(f"{cls.__qualname__}: two fields have the public name {name!r}.")
            if name in cls.fields and name != key:
                raise TypeError(
                    f"{cls.__qualname__}.{key}: its public name {name!r} is another field's name."
                )
        dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)(cls)
        jax.tree_util.register_dataclass(cls, data_fields=list(cls.fields), meta_fields=[])

    @classmethod
    def filled(cls, value: Any) -> Self:
        """A record in which every field is the number `value`, which fills whatever shape it has."""
        return cls(**dict.fromkeys(cls.fields, value))

    @classmethod
    def resized(cls, sizes: dict[str, Any]) -> type[Self]:
        """The same record with other axes: axis name -> size or labels.

        A default that no longer fits becomes None. The same sizes are the same class.
        """
        axes = [axis.name for field in cls.fields.values() for axis in field.axes]
        sizes = {name: sizes[name] for name in axes if name in sizes}
        if not sizes:
            return cls
        base, steps = cls._made_of()
        steps = (*steps, tuple(sorted(sizes.items())))
        if steps in base._by_sizes:
            return base._by_sizes[steps]
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
        variant._steps = base, steps
        return base._by_sizes.setdefault(steps, variant)

    @classmethod
    def _made_of(cls) -> tuple[type[Record], tuple[Any, ...]]:
        """The class that a module declares, and the sizes that were then given to it, time after time."""
        return cls.__dict__.get("_steps", (cls, ()))

    def __reduce__(self) -> tuple[Any, ...]:
        # A resized class goes by the one that a module declares: pickle finds no other by its name.
        return _remade, (*self._made_of(), {key: getattr(self, key) for key in self.fields})

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
        given = self._by_key(changes)
        return type(self)(**{**{key: getattr(self, key) for key in self.fields}, **given})

    @classmethod
    def _by_key(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values by the fields that their names mean; a field named twice, either way, is a TypeError."""
        given: dict[str, Any] = {}
        for name, value in values.items():
            key = cls.key_of(name)
            if key in given:
                raise TypeError(
                    f"{key!r} is given twice: as {key!r} and as {cls.fields[key].name!r}."
                )
            given[key] = value
        return given

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
        name = type(self).__qualname__
        return "\n".join([f"{name}(", *rows, ")"]) if rows else f"{name}()"


def stands_for(record: Any, kind: type[Record]) -> bool:
    """Whether a record may be given where one of a kind is wanted. Of a resized kind, that is a subclass
    of what a module declares, either will do."""
    known = isinstance(record, Record) and (
        isinstance(record, kind) or issubclass(kind, type(record))
    )
    return known and record.fields.keys() == kind.fields.keys()


def resized_class(base: type[Record], steps: tuple[Any, ...]) -> type[Record]:
    """The record that resizing `base` time after time makes."""
    for sizes in steps:
        base = base.resized(dict(sizes))
    return base


def _remade(base: type[Record], steps: tuple[Any, ...], values: dict[str, Any]) -> Record:
    return resized_class(base, steps)(**values)


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
