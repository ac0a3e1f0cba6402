"""Parameters, scenarios and variables of a library model, derived from its declaration.

A declared field is a parameter `X`; a field over sectors is one parameter `S.X` per sector S; a field
over anything else (agents, industries of a data set) is a data parameter.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
import torch

from macrostat_jax import Field, accounts
from macrostat_jax import Model as Definition

from .._packing import scalar_names
from ..core import LinearConstraint, Parameters, Scenarios, Variables, _accounts
from ..core._dtype import as_dtype
from ._conventions import AXES, COLUMNS, HYPERPARAMETERS, NUMBERED

logger = logging.getLogger(__name__)

SECTOR = "sector"
"""The name of the axes whose labels are sectors."""


def _over_sectors(field: Field) -> bool:
    return bool(field.axes) and all(axis.name == SECTOR and axis.labels for axis in field.axes)


def in_size(definition: Definition, hyper: Mapping[str, Any]) -> Definition:
    """The declaration with the sectors, or numbers of agents, that the hyperparameters ask for.

    Raises:
        ValueError: a number of agents that is none.
    """
    sizes = {}
    for axis, name in AXES.get(definition.name, {}).items():
        if name not in hyper:
            continue
        sizes[axis] = size = hyper[name]
        if isinstance(size, bool | float | int | np.number) and (
            not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1
        ):
            raise ValueError(f"{name} must be a positive integer; got {size!r}.")
    return definition.resize(**sizes)


def tensor_name(name: str) -> str:
    return name.replace(".", "_")


def _sector(account: str | tuple[str, str]) -> str:
    return account if isinstance(account, str) else account[0]


def _sectors(definition: Definition) -> list[str]:
    """The sectors that the variables name, in order; the economy as a whole if there is no other."""
    found: dict[str, None] = {}
    for field in definition.State.fields.values():
        named = (field.sector, field.pays, field.gets, field.asset, field.liability)
        found |= dict.fromkeys(_sector(account) for account in named if account)
    return [name for name in found if name != "Macroeconomy"] or ["Macroeconomy"]


def _copied(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Entries of a model's own: what is derived from a declaration is kept, and shared by all of its models."""
    return {
        name: {key: list(v) if isinstance(v, list) else v for key, v in entry.items()}
        for name, entry in entries.items()
    }


@functools.lru_cache(maxsize=256)
def _default_parameters(definition: Definition) -> dict[str, dict[str, Any]]:
    found = {}
    for field in definition.Params.fields.values():
        if field.axes and not _over_sectors(field):
            continue
        values = np.broadcast_to(np.asarray(field.default, float), field.shape).reshape(-1)
        for i, (name, value) in enumerate(zip(scalar_names(field), values.tolist(), strict=True)):
            found[name] = {
                "lower bound": field.extremes[0],
                "upper bound": field.extremes[1],
                "notation": _slot_symbol(field, i),
                "unit": field.unit,
                "value": value,
            }
    return found


@functools.lru_cache(maxsize=256)
def _hyperparameters(definition: Definition) -> dict[str, Any]:
    """What the declaration says of the hyperparameters. `Parameters` copies it."""
    hyper: dict[str, Any] = {
        "timesteps": definition.periods,
        "timesteps_initialization": 1,
        "scenario_trigger": definition.trigger,
        "sectors": _sectors(definition),
    }
    axes = [axis for field in definition.Params.fields.values() for axis in field.axes]
    if labels := {axis.labels for axis in axes if axis.name == SECTOR}:
        if len(labels) > 1 or sorted(*labels) != list(*labels):
            raise ValueError(
                f"{definition.name}: all axes named {SECTOR!r} must have the same labels, in sorted "
                f"order, not {sorted(labels)}."
            )
        hyper["vector_sectors"] = list(*labels)
    hyper |= dict(definition.options) | HYPERPARAMETERS.get(definition.name, {})
    return hyper | ({"dtype": as_dtype(hyper["dtype"])} if "dtype" in hyper else {})


@functools.lru_cache(maxsize=256)
def _default_variables(definition: Definition) -> dict[str, dict[str, Any]]:
    found, fields = {}, definition.State.fields
    for field in fields.values():
        found[field.name] = {
            "notation": _notation(field.symbol),
            "unit": field.unit,
            "history": 0,
            "sectors": _columns(definition.name, field),
            "sfc": _roles(field),
        }
        if field.price:
            found[field.name]["price"] = fields[field.price].name
        if field.unlimited:
            found[field.name]["unlimited"] = True
        if len(labels := _labels(field)) == 2:
            found[field.name]["matrix"] = labels[0]
    return found


class LibraryParameters(Parameters):
    """Parameters of a library model."""

    definition: ClassVar[Definition]

    def get_default_parameters(self) -> dict[str, dict[str, Any]]:
        return _copied(_default_parameters(self.definition))

    def get_default_hyperparameters(self) -> dict[str, Any]:
        return super().get_default_hyperparameters() | _hyperparameters(self.definition)

    def get_default_data_parameters(self) -> dict[str, dict[str, Any]]:
        return {
            field.name: {
                # A default of another size is none.
                "value": np.broadcast_to(
                    np.asarray(0.0 if field.default is None else field.default, float), field.shape
                ).copy(),
                "lower_bound": field.bounds[0],
                "upper_bound": field.bounds[1],
                "unit": field.unit,
                "notation": field.symbol,
            }
            for field in in_size(self.definition, self.hyper).Params.fields.values()
            if field.axes and not _over_sectors(field)
        }

    def get_constraints(self) -> tuple[LinearConstraint, ...]:
        return _constraints(self.definition)


@functools.lru_cache(maxsize=256)
def _constraints(definition: Definition) -> tuple[LinearConstraint, ...]:
    """The declared constraints by public names; one over whole fields holds for each element."""
    found = []
    for constraint in definition.constraints:
        columns = [_referenced(definition, name) for name in constraint.names]
        for names in zip(*columns, strict=True):
            found.append(LinearConstraint(names, constraint.total))
    return tuple(found)


def _referenced(definition: Definition, reference: str) -> list[str]:
    """The parameters that `key`, or the element `key[i]`, stands for."""
    match = re.fullmatch(r"(\w+)\[(\d+)\]", reference)
    key = match[1] if match else reference
    names = scalar_names(definition.Params.fields[key])
    return [names[int(match[2])]] if match else names


class LibraryScenarios(Scenarios):
    """Scenarios of a library model: its default one, those of the user, its named ones."""

    definition: ClassVar[Definition]
    parameters_class: ClassVar[type[LibraryParameters]]

    def __init__(
        self,
        parameters: Parameters | None = None,
        scenarios: Mapping[str, Mapping[str, Any]] | None = None,
        scenario_info: Mapping[int, dict[str, Any]] | None = None,
        calibration_variables: Sequence[str] | None = None,
    ) -> None:
        parameters = self.parameters_class() if parameters is None else parameters
        super().__init__(parameters, scenarios, scenario_info, calibration_variables)
        for name, series in self.definition.scenarios.items():
            changes: dict[str, Any] = {}
            for label, value in series.items():
                changes |= _series(self.definition, label, value)
            if self.trigger >= self.parameters["timesteps"]:
                # A short run ends before they depart from the default scenario.
                logger.info("Scenario %r begins after the last period: it is the default.", name)
                changes = {}
            self.add_scenario(changes, name=name)

    def get_default_scenario_values(self) -> dict[str, Any]:
        values = _default_values(in_size(self.definition, self.parameters.hyper))
        return {k: v if isinstance(v, float) else v.copy() for k, v in values.items()}


@functools.lru_cache(maxsize=256)
def _default_values(definition: Definition) -> dict[str, Any]:
    """Public name -> default of every exogenous series and listed shock."""
    values: dict[str, Any] = {}
    for field in definition.Scenario.fields.values():
        default = np.broadcast_to(np.asarray(field.default, float), field.shape)
        values[tensor_name(field.name)] = default.copy() if field.shape else float(default)
    labels = dict.fromkeys(definition.shock_series)
    for series in definition.scenarios.values():
        labels |= dict.fromkeys(label for label in series if not _is_exogenous(definition, label))
    for label in labels:
        values |= _series(definition, label, 1.0 if label.endswith("_multiply") else 0.0)
    return {name: float(value) if np.ndim(value) == 0 else value for name, value in values.items()}


def _is_exogenous(definition: Definition, label: str) -> bool:
    fields = definition.Scenario.fields
    return label in fields or any(field.name == label for field in fields.values())


def _series(definition: Definition, label: str, value: Any) -> dict[str, Any]:
    """A declared series by public names; a shock to a field over sectors is one per sector."""
    if _is_exogenous(definition, label):
        fields = definition.Scenario.fields
        return {tensor_name(fields[definition.Scenario.key_of(label)].name): value}
    key, kind = definition.split_shock(label)
    field = definition.Params.fields[key]
    if not field.shape:
        return {f"{tensor_name(field.name)}_{kind}": value}
    array = np.asarray(value, float)
    lead = array.shape[: max(array.ndim - len(field.shape), 0)]
    columns = np.broadcast_to(array, (*lead, *field.shape)).reshape(*lead, -1)
    names = [f"{tensor_name(name)}_{kind}" for name in scalar_names(field)]
    return {name: columns[..., i] for i, name in enumerate(names)}


class LibraryVariables(Variables):
    """Variables of a library model."""

    definition: ClassVar[Definition]
    parameters_class: ClassVar[type[LibraryParameters]]

    def __init__(
        self,
        variable_info: dict[str, dict[str, Any]] | None = None,
        timeseries: Mapping[str, torch.Tensor] | None = None,
        parameters: Parameters | Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(parameters, Parameters):
            parameters = self.parameters_class(parameters=parameters)
        super().__init__(variable_info, timeseries, parameters)

    def get_default_variables(self) -> dict[str, dict[str, Any]]:
        return _copied(_default_variables(in_size(self.definition, self.parameters.hyper)))

    def check_health(self) -> bool:
        """Whether the results are finite and all accounts of the model sum to zero.

        What is wrong is logged. Tolerance: the rounding of the results' dtype, relative to the
        largest entry of the account.
        """
        record = self._record()
        if record is None:
            return super().check_health()
        healthy = self._is_finite()
        precision = max(torch.finfo(path.dtype).eps for path in self.gather_timeseries().values())
        with jax.enable_x64(True):  # else results in float64 would be summed in float32
            residuals = accounts.residuals(self.definition, record, relative=True)
        for label, gaps in residuals.items():
            gap = float(np.max(np.abs(np.asarray(gaps)), initial=0.0))
            if not gap <= 4 * len(gaps) * precision:
                logger.warning(
                    "%s does not sum to zero: off by %g of its largest entry.", label, gap
                )
                healthy = False
        return healthy

    def _entries(self, group_io: bool) -> list[_accounts.Entry]:
        # A payer may have got the same amount in the same period: interest that a central bank
        # passes on. Without that row its column would not sum to zero.
        found = super()._entries(group_io)
        for field in self.definition.State.fields.values():
            if field.received_from is not None and field.pays is not None:
                row = {"sfc": [("Inflow", field.pays), ("Outflow", field.received_from)]}
                info = {field.name: {**self.info.get(field.name, {}), **row}}
                for entry in _accounts.entries(info, ()):
                    found.append(entry._replace(item=f"{field.name}Received"))
        owed = {entry.field.name for entry in accounts.claims(self.definition)}
        found = [e._replace(tangible=e.kind == "asset" and e.variable not in owed) for e in found]
        return found + [self._interest(entry) for entry in accounts.interest(self.definition)]

    def _interest(self, entry: accounts.Entry) -> _accounts.Entry:
        """Interest that is no variable: a rate of last period on a stock of last period."""
        field, fields = entry.field, self.definition.State.fields
        rate: Any = field.interest
        if isinstance(rate, str):
            rate = (fields[rate].name, _notation(fields[rate].symbol))
        return _accounts.Entry(
            field.name,
            _notation(field.symbol),
            "inflow" if entry.sign > 0 else "outflow",
            entry.column,
            "".join(word[:1].upper() + word[1:] for word in entry.row.split()),
            rate=rate,
        )

    def _record(self) -> Any:
        """The results as the declared record; None where variables were added or left out."""
        definition = in_size(self.definition, self.parameters.hyper)
        series, fields = self.gather_timeseries(), definition.State.fields
        if series.keys() != {field.name for field in fields.values()}:
            return None
        arrays = {name: path.detach().cpu().double().numpy() for name, path in series.items()}
        return definition.State(
            **{key: arrays[f.name].reshape(-1, *f.shape) for key, f in fields.items()}
        )


def _notation(symbol: str) -> str:
    r"""The symbol with its time: `Y` is `Y(t)`, `r_{-1}\cdot B_{h,-1}` is `r(t-1)\cdot B_h(t-1)`."""
    if not symbol:
        return ""

    def dated(factor: str) -> str:
        if re.search(r"_t$|_\{(?:[^{}]*,)?t\}$", factor):
            return factor  # says its time itself
        if match := re.fullmatch(r"(.*)_\{(?:(.*),)?-1\}", factor):
            subscript = match[2] or ""
            subscript = f"{{{subscript}}}" if len(subscript) > 1 else subscript
            return f"{match[1]}{'_' if subscript else ''}{subscript}(t-1)"
        return f"{factor}(t)"

    return r"\cdot ".join(dated(factor.strip()) for factor in symbol.split(r"\cdot"))


def _slot_symbol(field: Field, slot: int) -> str:
    """The symbol of one slot, in which its numbers stand for i and j: `a_{i,j}` is `a_{1,2}`."""
    symbol = field.symbol
    for letter, place in zip("ij", np.unravel_index(slot, field.shape), strict=False):
        symbol = re.sub(rf"(?<=[_{{,]){letter}(?=[}},]|$)", str(place + 1), symbol)
    return symbol


def _columns(model: str, field: Field) -> list[Any]:
    """The entry "sectors": the sector of a scalar, the labels of a vector (of a matrix: of its columns,
    as "matrix" has those of its rows), else sizes.
    """
    if model in NUMBERED:
        return list(field.shape)
    if labels := _labels(field):
        return labels[-1]
    if field.axes:
        return list(field.shape)
    holder = field.pays or field.asset or field.liability or field.sector
    return [COLUMNS.get(model, {}).get(field.name) or _sector(holder)]


def _labels(field: Field) -> list[list[str]]:
    """The labels of each axis of a vector or matrix; none where an axis only has a size."""
    labels = [list(axis.labels) for axis in field.axes]
    return labels if all(labels) and len(labels) < 3 else []


def _roles(field: Field) -> list[tuple[str, Any]]:
    if field.role == "flow":
        return [("Inflow", field.gets), ("Outflow", field.pays)]
    if field.role == "stock":
        sides = (("Asset", field.asset), ("Liability", field.liability))
        return [(side, account) for side, account in sides if account]
    return [("Index", field.sector)]
