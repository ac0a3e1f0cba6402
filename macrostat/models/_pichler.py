"""What model PichlerEtAl2022DIO has beyond other models: other industries, and data from files.

The industries are the hyperparameter `sector_names`; `n_sectors`, `sectors` and `iosectors` follow from
it. Data of other industries come from CSV tables in the layout of the paper's replication package, or
from any other source as `data_parameters`.
"""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from ..core.scenarios import as_tensor
from . import _declared as declared

if TYPE_CHECKING:
    import pandas as pd

    from ..core import Parameters as AnyParameters

logger = logging.getLogger(__name__)

INDUSTRY, HOUSEHOLD = "industry", "Household"

WIOD = (
    *("A01", "A02", "A03", "B", "C10-C12", "C13-C15", "C16", "C17", "C18", "C19", "C20", "C21"),
    *("C22", "C23", "C24", "C25", "C26", "C27", "C28", "C29", "C30", "C31_C32", "C33", "D35"),
    *("E36", "E37-E39", "F", "G45", "G46", "G47", "H49", "H50", "H51", "H52", "H53", "I", "J58"),
    *("J59_J60", "J61", "J62_J63", "K64", "K65", "K66", "L68", "M69_M70", "M71", "M72", "M73"),
    *("M74_M75", "N", "O84", "P85", "Q", "R_S", "T"),
)
"""The industries of the World Input-Output Database of 2016 (ISIC revision 4)."""


class Parameters(declared.LibraryParameters):
    """Parameters of an economy of the default industries, or of those in `sector_names`."""

    def __init__(
        self,
        parameters: Mapping[str, Any] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        data_parameters: Mapping[str, Any] | None = None,
        *,
        bounds: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        super().__init__(parameters, hyperparameters, data_parameters, bounds=bounds)
        fields = declared.in_size(self.definition, self.hyper).Params.fields.values()
        missing = {field.name for field in fields if field.default is None}
        if missing := sorted(missing - set(data_parameters or {})):
            logger.warning(
                "The data of %d industries are 0 until they are given: %s.",
                self.hyper["n_sectors"],
                ", ".join(missing),
            )

    def get_default_hyperparameters(self) -> dict[str, Any]:
        axis = self.definition.Params.fields["initial_gross_output"].axes[0]
        return super().get_default_hyperparameters() | _sizes(axis.labels)

    def update_hyper(self, hyperparameters: Mapping[str, Any]) -> None:
        """Changes hyperparameters; `sector_names` brings the others along that follow from it.

        Raises:
            KeyError: an unknown hyperparameter. ValueError: names or numbers of industries that
                contradict each other.
        """
        given = dict(hyperparameters)
        if "sector_names" in given:
            given = _sizes(given["sector_names"]) | given
        new = {**self.hyper, **given}
        names, size = list(new["sector_names"]), new["n_sectors"]
        if len(set(names)) < len(names):
            raise ValueError(f"sector_names names an industry twice: {names}.")
        if size != len(names):
            raise ValueError(f"n_sectors is {size}, but sector_names names {len(names)}: {names}.")
        if list(new["iosectors"]) != names:
            raise ValueError(f"iosectors must be sector_names, {names}, not {new['iosectors']}.")
        super().update_hyper(given)

    def verify_parameters(self) -> None:
        """Raises an error where a value is not within its bounds, or data are of another shape."""
        for field in declared.in_size(self.definition, self.hyper).Params.fields.values():
            if field.shape and tuple(self.data[field.name]["value"].shape) != field.shape:
                raise ValueError(
                    f"Data parameter {field.name!r} has the shape "
                    f"{tuple(self.data[field.name]['value'].shape)}; with the "
                    f"{self.hyper['n_sectors']} industries of sector_names it must be {field.shape}."
                )
        super().verify_parameters()

    @classmethod
    def from_wiod_uk(
        cls,
        data_dir: os.PathLike | str,
        ihs_dir: os.PathLike | str | None = None,
        inv_file: os.PathLike | str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Parameters of the United Kingdom (or another economy) from CSV tables.

        Rows are found by the names of the industries, columns of matrices as well; where a table
        names none of them, its first rows (and columns) are taken in the order of `sector_names`.

        Args:
            data_dir: has the tables GBR_A, GBR_Z (matrices, row: what is needed, column: by whom),
                GBR_x, GBR_lab, GBR_cap, GBR_firm_taxes, GBR_other_expenses, GBR_Z_imports,
                GBR_consumer_taxes (one column each), GBR_f (final demand; column C1 is households')
                and GBR_f_imported (its first cell: households' imports), all with the ending .csv.
            ihs_dir: has A.essential2.csv, the matrix of critical inputs (1, 1/2, 0); without it
                none is critical.
            inv_file: its column invratio has the days that inventories are to last; without it there
                are none, and no input is ever in store.
            kwargs: as for the constructor. `hyperparameters={"sector_names": ...}` names industries
                other than the 55 of the WIOD.

        Raises:
            FileNotFoundError: a table that is missing. ValueError: a table without some of the
                industries, or too small.
        """
        import pandas as pd

        hyper = {"sector_names": list(WIOD), **(kwargs.pop("hyperparameters", None) or {})}
        names, folder = list(hyper["sector_names"]), Path(data_dir)

        def column(name: str) -> np.ndarray:
            return _rows(folder / f"GBR_{name}.csv", names).iloc[:, 0].to_numpy(float)

        output = column("x")
        final = _rows(folder / "GBR_f.csv", names)
        consumption = _column(final, "C1", folder / "GBR_f.csv")
        expenses = column("firm_taxes") + column("other_expenses") + column("Z_imports")
        elsewhere = _table(folder / "GBR_f_imported.csv").iloc[0, 0]
        elsewhere += _table(folder / "GBR_consumer_taxes.csv").iloc[:, 0].sum()
        data = {
            "TechnicalCoefficients": _matrix(folder / "GBR_A.csv", names),
            "CriticalInputMatrix": np.zeros((len(names), len(names))),
            "IntermediateConsumptionMatrix": _matrix(folder / "GBR_Z.csv", names),
            "InitialGrossOutput": output,
            "InitialLabourCompensation": column("lab"),
            "InitialHouseholdConsumption": consumption,
            "InitialProfits": column("cap"),
            "InitialOtherFinalDemand": final.drop(columns="C1").sum(axis=1).to_numpy(),
            "InventoryTargetDays": np.zeros(len(names)),
            "OtherCostCoefficients": expenses / np.where(output == 0, 1, output),
            "HouseholdOtherCostCoefficient": [elsewhere / (elsewhere + consumption.sum())],
        }
        if ihs_dir is not None:
            data["CriticalInputMatrix"] = _matrix(Path(ihs_dir) / "A.essential2.csv", names)
        if inv_file is not None:
            days = pd.read_csv(inv_file)
            days = _positioned(days.set_index(days.columns[0], drop=False), inv_file, names)
            data["InventoryTargetDays"] = _column(days, "invratio", inv_file)
        given = {**data, **(kwargs.pop("data_parameters", None) or {})}
        return cls(hyperparameters=hyper, data_parameters=given, **kwargs)


class Scenarios(declared.LibraryScenarios):
    """Scenarios; by default households and others demand what they do in the data."""

    def get_default_scenario_values(self) -> dict[str, Any]:
        consumption = self.parameters["InitialHouseholdConsumption"].detach()
        total = consumption.sum()
        even = torch.full_like(consumption, 1 / len(consumption))
        return {
            **super().get_default_scenario_values(),
            "DemandPreferences": consumption / total if total > 0 else even,
            "OtherFinalDemand": self.parameters["InitialOtherFinalDemand"].detach().clone(),
        }

    def add_vector_scenario(
        self,
        timeseries: Mapping[str, Any],
        name: str = "Baseline",
        colour: str = "#CC0000",
    ) -> None:
        """Adds a scenario of whole series, from the first period on.

        Args:
            timeseries: series -> array of shape (timesteps, industries), or (timesteps,) or
                (timesteps, 1) for a series of numbers. Series that are not named keep their default.
            name: of the scenario.
            colour: for pictures, `#rrggbb`.

        Raises:
            KeyError: a series that the model does not have. ValueError: an array of another shape, or
                values that are not finite.
        """
        series = self.get_default_scenario()
        for key, value in timeseries.items():
            if key not in series:
                raise KeyError(f"There is no series {key!r}. There are: {', '.join(series)}.")
            path = as_tensor(value).detach().to(series[key])
            path = (
                path.reshape(-1, 1) if path.dim() == 1 and series[key].shape[1:] == (1,) else path
            )
            if path.shape != series[key].shape:
                names = self.parameters["sector_names"]
                of = f", one column for each of {names}" if series[key].shape[1] > 1 else ""
                raise ValueError(
                    f"Series {key!r} needs the shape {tuple(series[key].shape)}{of}; it has the shape "
                    f"{tuple(np.shape(value))}."
                )
            if not bool(torch.isfinite(path).all()):
                raise ValueError(f"Series {key!r} has values that are not finite.")
            series[key] = path.clone()
        number = max(self.info) + 1
        self.timeseries[number] = series
        info = self._new_info(name, colour)
        self.info[number] = {**info, "Index": np.arange(self.parameters["timesteps"])}

    @classmethod
    def from_shocks_csv(
        cls,
        parameters: AnyParameters,
        shock_csv: os.PathLike | str,
        final_demand_csv: os.PathLike | str,
        supply_scenario: str = "S4",
        demand_scenario: str = "D",
        other_fd_scenario: str = "strong",
        delta_srate: float = 0.5,
        rho_bar: float = 0.6,
        l_shape_believe: str = "50%",
    ) -> Self:
        """Scenarios with the paper's lockdown of 2020 as scenario "Baseline"; day 0 is 1 January.

        Args:
            parameters: of the industries that the tables are about.
            shock_csv: a row for each industry; the columns of the two scenarios, RLI (the share of
                work that can be done at home) and UK essential (the share that may go on).
            final_demand_csv: final demand by industry and user; column C1 is households'.
            supply_scenario: S1 (lasts but for retail), S2, S3, S4 (who can neither work at home nor
                is essential; others return until 13 May), S5 or S6 (ends on 13 May).
            demand_scenario: the column with the share of demand that fear takes from each industry.
            other_fd_scenario: "weak" or "strong": investment and exports fall by 10 or 15 %.
            delta_srate: the share of what fear takes that is saved; the rest is spent elsewhere.
            rho_bar: quarterly persistence of consumption.
            l_shape_believe: the share of households that expect no recovery: "0%", "50%", "100%".

        Raises:
            ValueError: a scenario that there is not, or a table without some of the industries.
        """
        names, periods = list(parameters["sector_names"]), parameters["timesteps"]
        shocks, final = _rows(shock_csv, names), _rows(final_demand_csv, names)
        for argument, value, known in (
            ("supply_scenario", supply_scenario, ("S1", "S2", "S3", "S4", "S5", "S6")),
            ("other_fd_scenario", other_fd_scenario, ("weak", "strong")),
            ("l_shape_believe", l_shape_believe, tuple(_PESSIMISTS)),
        ):
            if value not in known:
                raise ValueError(f"{argument} must be one of {', '.join(known)}, not {value!r}.")
        absent = _column(shocks, supply_scenario, shock_csv)
        avoided = _column(shocks, demand_scenario, shock_csv)
        remote = essential = np.zeros(len(names))
        if supply_scenario in _GRADUAL:
            remote = _column(shocks, "RLI", shock_csv)
            essential = _column(shocks, "UK essential", shock_csv)
        consumption = _column(final, "C1", final_demand_csv)
        labour = parameters["InitialLabourCompensation"].double().numpy()
        preferences, fear = _demand(names, consumption, avoided, periods)
        scenarios = cls(parameters=parameters)
        scenarios.add_vector_scenario(
            {
                "SupplyShock": _supply(supply_scenario, names, absent, remote, essential, periods),
                "DemandPreferences": preferences,
                "FearOfInfection": delta_srate * fear,
                "PermanentIncomeExpectation": _permanent_income(
                    absent @ labour / labour.sum(), rho_bar, _PESSIMISTS[l_shape_believe], periods
                ),
                "OtherFinalDemand": _other_demand(final, avoided, other_fd_scenario, periods),
            }
        )
        return scenarios


def _sizes(names: Sequence[str]) -> dict[str, Any]:
    """The hyperparameters that follow from the names of the industries."""
    return {
        "n_sectors": len(names),
        "sector_names": list(names),
        "sectors": [*names, HOUSEHOLD],
        "iosectors": list(names),
    }


# Tables ---------------------------------------------------------------------------------------


def _table(path: os.PathLike | str) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(path, index_col=0)


def _rows(path: os.PathLike | str, names: list[str]) -> pd.DataFrame:
    return _positioned(_table(path), path, names)


def _matrix(path: os.PathLike | str, names: list[str]) -> np.ndarray:
    rows = _rows(path, names)
    return _positioned(rows.T, path, names, "columns").T.to_numpy(float)


def _positioned(
    table: pd.DataFrame, path: os.PathLike | str, names: list[str], what: str = "rows"
) -> pd.DataFrame:
    """The rows of the industries: by name, or the first ones where the table names none of them."""
    labels = [str(label) for label in table.index]
    missing = [name for name in names if name not in labels]
    if not missing:
        return table.iloc[[labels.index(name) for name in names]]
    if len(missing) < len(names):
        raise ValueError(f"{path} has no {what} for the sectors {', '.join(missing)}.")
    if len(table) < len(names):
        raise ValueError(f"{path} has {len(table)} {what}, for {len(names)} sectors.")
    return table.iloc[: len(names)]


def _column(table: pd.DataFrame, name: str, path: os.PathLike | str) -> np.ndarray:
    if name not in table.columns:
        known = ", ".join(map(str, table.columns))
        raise ValueError(f"{path} has no column {name!r}. There are: {known}.")
    return table[name].to_numpy(float)


# The lockdown of 2020 -------------------------------------------------------------------------


def _day(month: int, day: int) -> int:
    return (datetime.date(2020, month, day) - datetime.date(2020, 1, 1)).days + 1


LOCKDOWN, OPENING, SHOPS_OPEN = _day(3, 23), _day(5, 13), _day(6, 15)
_GRADUAL = ("S2", "S3", "S4")
_SHOPS = ("G45", "G47")
_DURABLES = ("C13-C15", "C18", "C20", "C26", "C29", "C31_C32")
_PESSIMISTS = {"0%": 0.0, "50%": 0.5, "100%": 1.0}
_CUT = ("I", "Export", "RoW_C", "RoW_G", "RoW_I", "RoW_inventory")
"""The users of final demand who buy less; of those of C2 households' fear takes its share."""


def _supply(
    scenario: str,
    names: list[str],
    absent: np.ndarray,
    remote: np.ndarray,
    essential: np.ndarray,
    periods: int,
) -> np.ndarray:
    """The share of workers who stay away, (periods, industries)."""
    days = np.arange(periods)[:, None]
    closed = days >= LOCKDOWN
    shop = np.isin(names, _SHOPS) & (days >= SHOPS_OPEN)
    if scenario == "S1":
        return np.where(closed & ~shop, absent, 0.0)
    if scenario not in _GRADUAL:
        return np.where(closed & (days < OPENING), absent, 0.0)
    # Of those who cannot work at home, the essential ones may; some of them are kept off at first.
    allowed = np.where(closed & ~shop, essential, 1.0)
    kept_off = np.clip((OPENING - days) / (OPENING - LOCKDOWN), 0, 1) * closed * absent
    return (1 - remote) * (1 - allowed * (1 - kept_off))


def _demand(
    names: list[str], consumption: np.ndarray, avoided: np.ndarray, periods: int
) -> tuple[np.ndarray, np.ndarray]:
    """Households' preferences (periods, industries), and the share of spending that fear takes."""
    days = np.arange(periods)
    fading = np.ones(periods)
    if periods > OPENING:
        fading[OPENING:] = np.linspace(1, 0.5, periods - OPENING)
    fall = np.where(days >= LOCKDOWN, fading, 0.0)[:, None] * avoided
    # Durable goods are avoided until the shops open, and after that as the first other industry's.
    durable, late = np.isin(names, _DURABLES), days >= SHOPS_OPEN - 2
    fall[:, durable] = np.where(days >= LOCKDOWN, 1.0, 0.0)[:, None] * avoided[durable]
    if durable.any() and not durable.all():
        fall[np.ix_(late, durable)] = fall[late][:, [int(np.argmin(durable))]]
    spending = (1 - fall) * consumption / consumption.sum()
    total = spending.sum(axis=1)
    return spending / np.where(total == 0, 1, total)[:, None], 1 - total


def _permanent_income(
    lost: float, quarterly_persistence: float, pessimists: float, periods: int
) -> np.ndarray:
    """Expected income as a share of the initial one; `lost` is what the lockdown takes of it."""
    recovery = (1 - quarterly_persistence) / 90
    expected = np.ones(periods)
    expected[LOCKDOWN:OPENING] = 1 - lost / 2
    for day in range(OPENING, periods):
        expected[day] = expected[day - 1] + recovery * (
            1 - pessimists * lost / 2 - expected[day - 1]
        )
    return expected


def _other_demand(
    final: pd.DataFrame, avoided: np.ndarray, scenario: str, periods: int
) -> np.ndarray:
    """What others than households demand, (periods, industries)."""
    initial = final.drop(columns="C1")
    shocked = initial.astype(float)
    cut = [name for name in _CUT if name in shocked]
    shocked[cut] *= 0.9 if scenario == "weak" else 0.85
    if "C2" in shocked:
        shocked["C2"] *= 1 - avoided
    before, after = initial.sum(axis=1).to_numpy(), shocked.sum(axis=1).to_numpy()
    return np.where(np.arange(periods)[:, None] >= LOCKDOWN, after, before)
