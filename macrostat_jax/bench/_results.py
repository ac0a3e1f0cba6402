"""Results: rows of figures, as a table, a file, a picture."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._store import replacing
from ._cases import Case
from ._figures import Spread, spread

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMAT = 1
TOLERANCE = {("float64", 0): 1e-12, ("float64", 1): 1e-10, ("float64", 2): 1e-10}
"""(dtype, order of the derivative) -> how far backends may differ; single precision: `SINGLE`."""
SINGLE = 1e-3
KEY = ("model", "scenario", "periods", "batch", "sizes", "seed", "backend")


@dataclasses.dataclass
class Row:
    """One scenario on one backend at one size; or why there is no such figure.

    Attributes:
        reason: why the backend cannot; None where it was measured.
        seconds: prepared calls: process -> round -> the median call of that round.
        first: process -> seconds until the first result: tracing, compiling and the first call.
        trace, compile: process -> the parts of `first`.
        runs: how often over the horizon by definition: model, tangent and adjoint runs.
        passes: loops over the horizon in the traced program, counted.
        memory: bytes by which the process's peak grew over the whole case, compiling included.
        program_bytes: XLA's account of a compiled program: arguments, results and what is beside them.
        operations, traffic: arithmetic operations of the traced program, counted, and the bytes of
            arguments and results, which any implementation must move.
        agreement: the largest difference from the reference, relative to the largest entry of its
            array or to 1; `against` says which reference.
    """

    model: str
    scenario: str
    backend: str
    periods: int
    batch: int = 1
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    seed: int = 0
    reason: str | None = None
    dtype: str | None = None
    parameters: int | None = None
    outputs: int | None = None
    seconds: list[list[float]] = dataclasses.field(default_factory=list)
    first: list[float] = dataclasses.field(default_factory=list)
    trace: list[float] = dataclasses.field(default_factory=list)
    compile: list[float] = dataclasses.field(default_factory=list)
    runs: dict[str, int] = dataclasses.field(default_factory=dict)
    passes: int | None = None
    memory: list[int] = dataclasses.field(default_factory=list)
    program_bytes: int | None = None
    operations: int | None = None
    traffic: int | None = None
    agreement: float | None = None
    against: str | None = None
    note: str | None = None
    limit: float | None = None
    """Seconds that a call takes at least on this device: the slower of its arithmetic at the measured
    rate and its arguments and results at the measured bandwidth."""
    simulation: float | None = None
    """The median of the same backend's plain simulation at this size, in seconds."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What the row is a figure of."""
        return tuple(
            tuple(sorted(value.items()))
            if isinstance(value := getattr(self, name), dict)
            else value
            for name in KEY
        )

    @property
    def measured(self) -> bool:
        return self.reason is None and bool(self.seconds)

    @property
    def spread(self) -> Spread:
        """Of the rounds of all processes."""
        return spread([one for process in self.seconds for one in process])

    @property
    def median(self) -> float:
        return self.spread.median

    @property
    def compile_share(self) -> float | None:
        """Tracing and compiling as a share of the time to the first result."""
        if not self.first:
            return None
        return (sum(self.trace) + sum(self.compile)) / sum(self.first)

    @property
    def in_simulations(self) -> float | None:
        """The time in plain simulations of the same backend; of a sweep, that of one of its runs."""
        if not self.measured or not self.simulation:
            return None
        return self.median / self.simulation / (self.batch if self.scenario == "sweep" else 1)

    @property
    def over_limit(self) -> float | None:
        """The time over the least that the machine allows."""
        return self.median / self.limit if self.measured and self.limit else None

    @property
    def agrees(self) -> bool | None:
        if self.agreement is None or self.dtype is None:
            return None
        order = Case(self.model, self.scenario, self.periods).order
        return self.agreement <= TOLERANCE.get((self.dtype, order), SINGLE)

    def to_dict(self) -> dict[str, Any]:
        """Everything, with what follows from it under `figures`."""
        found = dataclasses.asdict(self)
        if self.agreement is not None and not math.isfinite(self.agreement):
            found["agreement"] = "not comparable"
        if self.measured:
            found["figures"] = {
                **self.spread._asdict(),
                "first": spread(self.first).median,
                "compile_share": self.compile_share,
                "in_simulations": self.in_simulations,
                "over_limit": self.over_limit,
                "agrees": self.agrees,
            }
        return found

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Row:
        names = {field.name for field in dataclasses.fields(cls)}
        values = {name: value for name, value in given.items() if name in names}
        if values.get("agreement") == "not comparable":
            values["agreement"] = math.inf
        return cls(**values)


class Results:
    """Rows, and what made them.

    Attributes:
        rows: the figures, and the reasons where there is none.
        machine: what ran them.
        backends: name -> versions, device and measured limits; or the reason why it could not run.
        settings: rounds, processes, seconds, and the command.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        machine: Mapping[str, Any],
        backends: Mapping[str, Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> None:
        self.rows = list(rows)
        self.machine, self.settings = dict(machine), dict(settings)
        self.backends = {name: dict(about) for name, about in backends.items()}

    def __getitem__(self, at: tuple[str, str] | str) -> list[Row]:
        """The rows of a backend, or of a (scenario, backend)."""
        scenario, backend = (None, at) if isinstance(at, str) else at
        return [
            row for row in self.rows if row.backend == backend and scenario in (None, row.scenario)
        ]

    def __str__(self) -> str:
        from ._table import table, terminal

        return table(self, terminal())

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": "macrostat bench",
            "machine": self.machine,
            "settings": self.settings,
            "backends": self.backends,
            "rows": [row.to_dict() for row in self.rows],
        }

    def to_pandas(self) -> pd.DataFrame:
        """A row for each figure or reason; times in seconds, memory in bytes."""
        import pandas as pd

        return pd.DataFrame([_flat(row) for row in self.rows])

    def save(self, file: str | Path) -> None:
        """Writes everything as JSON (`.json`), or the figures as a table (`.csv`).

        Raises:
            ValueError: another ending.
        """
        path = Path(file)
        if path.suffix not in (".json", ".csv"):
            raise ValueError(f"{path.name}: results are saved as .json or .csv.")
        with replacing(path) as scratch:
            if path.suffix == ".json":
                scratch.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
            else:
                rows = [_flat(row) for row in self.rows]
                with open(scratch, "w", newline="", encoding="utf-8") as stream:
                    writer = csv.DictWriter(stream, list(rows[0]) if rows else [])
                    writer.writeheader()
                    writer.writerows(rows)

    def plot(self) -> Figure:
        """Times against batch and horizon, with the sizes at which the fastest backend changes; where
        there is one size only, times by scenario."""
        from ..plot._bench import bench

        return bench(self)


def load(file: str | Path) -> Results:
    """Results from a `.json` that `Results.save` wrote.

    Raises:
        ValueError: the file holds something else, or a format that this version does not know.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        kind, version = content.get("kind"), content.get("format")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file} holds no results of macrostat bench: {error}") from None
    if kind != "macrostat bench" or version != FORMAT:
        raise ValueError(
            f"{file} holds {kind or 'something else'}, format {version}; expected are results of "
            f"macrostat bench, format {FORMAT}."
        )
    try:
        rows = [Row.of(row) for row in content["rows"]]
        return Results(rows, content["machine"], content["backends"], content["settings"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged: {type(error).__name__}: {error}") from None


def _flat(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model": row.model,
        "scenario": row.scenario,
        "backend": row.backend,
        "periods": row.periods,
        "batch": row.batch,
        "sizes": " ".join(f"{axis}={size}" for axis, size in row.sizes.items()),
        "dtype": row.dtype,
        "reason": row.reason,
    }
    there = row.measured
    low = row.spread if there else None
    return found | {
        "median": low.median if low else None,
        "low": low.low if low else None,
        "high": low.high if low else None,
        "repeats": low.repeats if low else None,
        "processes": len(row.seconds) if there else None,
        "first": spread(row.first).median if there else None,
        "compile_share": row.compile_share if there else None,
        "in_simulations": row.in_simulations,
        "over_limit": row.over_limit,
        **{f"{kind}_runs": row.runs.get(kind) for kind in ("model", "tangent", "adjoint")},
        "passes": row.passes,
        "memory": max(row.memory) if row.memory else None,
        "program_bytes": row.program_bytes,
        "operations": row.operations,
        "traffic": row.traffic,
        "agreement": row.agreement,
        "against": row.against,
        "agrees": row.agrees,
        "note": row.note,
    }
