"""Sampling the parameter space of a model: points, simulations, files."""

from __future__ import annotations

import copy
import importlib.metadata
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from multiprocessing import cpu_count as available_cpus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from macrostat_jax import _fingerprint
from macrostat_jax._progress import progress
from macrostat_jax._store import Store, replacing

from .. import _engine
from ..core import Behavior, BoundaryError, ConstraintError, Model, Variables
from ..core._checks import check_order
from ..core._dtype import output_dtype
from ..core.constraints import ROUNDING
from ..util.batchprocessing import Workers, timeseries_worker
from . import _files

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


class BaseSampler:
    """Simulates a model at many points of its parameter space; a subclass says at which.

    What is not sampled keeps the value that it has in the model: parameters, data, hyperparameters,
    scenarios. Runs of a library model are batches of its compiled simulation, in this process. A
    behavior of your own in torch, or a `worker_function` of your own, runs task by task, with
    `cpu_count` above 1 in that many spawned processes.

    The runs of a random model all have the same random inputs (common random numbers): those of its
    seed, or of `model.noise`.

    An interrupted run goes on where it stopped: the same sampler, started again on the same folder,
    computes the batches that are missing.

    Args:
        model: it stays as it is.
        bounds: parameter -> (low, high). Default: all free parameters, within their own bounds.
        logspace: sample in the logarithm of the values.
        worker_function: `(name, model, *simulation_args) -> (name, *simulation_args, frame)`, in
            place of the simulation; it runs in spawned processes, whatever `cpu_count`.
        simulation_args: for `model.simulate`: `("name of a scenario",)`.
        output_folder: for `parameters_<batch>.csv` (rows: id, columns: all parameters) and
            `outputs_<batch>.csv` (rows: ID and time, columns: variable and sector), numbered from 0,
            and `manifest.json`, which says what they belong to.
        cpu_count: how many processes, at most as many as there are cores.
        batchsize: samples per file; default: all in one.
        save_to_disk: False: `sample` returns the results instead of writing them.
        output_filetype: `"csv"` or `"parquet"` (needs pyarrow).
        output_compression: for instance `"gzip"`.

    Raises:
        ValueError: bounds that name no free parameter, are no pair, not in order, or enclose 0 in log
            space; an unknown file type. ImportError: a library is missing for the file type.
    """

    def __init__(
        self,
        model: Model,
        bounds: Mapping[str, Sequence[float]] | None = None,
        logspace: bool = False,
        worker_function: Callable[[tuple], tuple] = timeseries_worker,
        simulation_args: tuple = (),
        output_folder: os.PathLike | str = "samples",
        cpu_count: int = 1,
        batchsize: int | None = None,
        save_to_disk: bool = True,
        output_filetype: str = "csv",
        output_compression: str | None = None,
    ) -> None:
        self.model = model
        self.modelclass = type(model)
        self.base_parameters = copy.deepcopy(model.parameters)
        self.logspace = logspace
        if bounds is None:
            free = set(model.parameters.get_free_param_names())
            bounds = {k: v for k, v in model.parameters.get_bounds().items() if k in free}
        self.bounds: dict[str, Any] = dict(bounds)
        self.verify_bounds(self.bounds)
        for name, count in (("cpu_count", cpu_count), ("batchsize", batchsize)):
            if count is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, not {count}.")
        self.worker_function = worker_function
        self.cpu_count = min(available_cpus(), cpu_count)
        self.batchsize = batchsize
        self.simulation_args = tuple(simulation_args)
        self.save_to_disk = save_to_disk
        self.output_folder = Path(output_folder)
        self.output_filetype = output_filetype
        self.output_compression = output_compression
        if save_to_disk and type(self).save_outputs is BaseSampler.save_outputs:
            _files.verify(output_filetype, output_compression)
        self.output_folder.mkdir(parents=True, exist_ok=True)

    # Points -----------------------------------------------------------------------------------

    def generate_parameters(self) -> pd.DataFrame:
        """The points: a row per sample, a column per sampled parameter."""
        raise NotImplementedError("This method should be implemented in a subclass")

    def verify_bounds(self, bounds: Mapping[str, Any]) -> None:
        """Raises `ValueError` where bounds cannot be sampled from."""
        values = self.model.parameters.values
        derived = {c.derived_param for c in self.model.parameters.get_constraints()}
        for name, bound in bounds.items():
            if name not in values:
                raise ValueError(
                    f"Parameter {name} not in the model's parameters: {', '.join(values)}"
                )
            if name in derived:
                raise ValueError(
                    f"Parameter {name} is derived by a constraint: sample the others of its group"
                )
            if len(bound) != 2:
                raise ValueError(f"Bounds should be a list-like of length 2. {name}: {bound}")
            low, high = bound
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ValueError(f"Bounds should be finite to sample between them. {name}: {bound}")
            if self.logspace and (low < 0) != (high < 0):
                raise ValueError(
                    f"Bounds should be either both positive or both negative. {name}: {bound}"
                )
            if self.logspace and 0 in (low, high):
                raise ValueError(f"Bounds cannot be zero when using logspace. {name}: {bound}")
            if low >= high:
                raise ValueError(
                    f"Lower bound should be smaller than the upper bound. {name}: {bound}"
                )

    def generate_tasks(self, points: pd.DataFrame) -> list[tuple]:
        """The tasks of a batch, `(id, model, *simulation_args)`, each with a model of its own.

        The library calls this where runs are not compiled, or where it is overridden.
        """
        tasks = []
        for name, row in zip(points.index, points.to_numpy(float), strict=True):
            twin = copy.copy(self.model)
            twin.behavior_instance = None
            twin.parameters = self._parameters(dict(zip(points.columns, row.tolist(), strict=True)))
            twin.variables = copy.copy(self.model.variables)
            twin.variables.parameters = twin.parameters
            twin.variables.initialize_tensors()
            tasks.append((name, twin, *self.simulation_args))
        return tasks

    def _parameters(self, values: Mapping[str, float]) -> Any:
        """The model's parameters with some values changed, within the bounds of the sampler."""
        parameters = copy.deepcopy(self.model.parameters)
        for name, value in values.items():
            entry = parameters.values[name]
            entry["value"] = value
            entry["lower bound"], entry["upper bound"] = self._bounds(name)
        parameters.enforce_constraints()
        parameters.verify_parameters()
        return parameters

    def _bounds(self, name: str) -> tuple[float, float]:
        info = self.model.parameters.values[name]
        low, high = self.bounds.get(name, (info["lower bound"], info["upper bound"]))
        return float(low), float(high)

    def _table(self, points: pd.DataFrame) -> pd.DataFrame:
        """All parameters at the points: a row per sample, a column per parameter; checked.

        Raises:
            KeyError: a column that is no parameter. ValueError: no points, repeated ids, values that are
                not finite. BoundaryError: a value outside its bounds. ConstraintError: points that drive
                a derived parameter outside its bounds.
        """
        import pandas as pd

        parameters = self.model.parameters
        if not len(points):
            raise ValueError("There are no points to sample.")
        if not points.index.is_unique or not points.columns.is_unique:
            raise ValueError("The ids and the names of the points must be unique.")
        for name in points.columns:
            if name not in parameters.values:
                there = ", ".join(parameters.values)
                raise KeyError(f"Parameter {name!r} not found. There are: {there}.")
        values = points.to_numpy(float)
        if not np.isfinite(values).all():
            raise ValueError("The points must be finite.")
        for name, column in zip(points.columns, values.T, strict=True):
            low, high = self._bounds(name)
            check_order(f"Parameter {name}", low, high)
            outside = ~((column >= low) & (column <= high))
            if outside.any():
                raise BoundaryError(
                    f"Parameter {name} has invalid value: {column[outside][0]} (bounds: {low}, {high})."
                )
        base = _engine.scalar_values(parameters)
        columns = {name: np.full(len(points), value) for name, value in base.items()}
        columns |= dict(zip(points.columns, values.T, strict=True))
        for constraint in parameters.get_constraints():
            derived = constraint.derived_param
            free = np.sum([columns[name] for name in constraint.free_params], axis=0)
            columns[derived] = constraint.target - free
            info = parameters.values[derived]
            low, high = info["lower bound"] - ROUNDING, info["upper bound"] + ROUNDING
            if outside := int((~((columns[derived] >= low) & (columns[derived] <= high))).sum()):
                raise ConstraintError(
                    f"{outside} of {len(points)} points would drive derived parameter '{derived}' out "
                    f"of its bounds ({info['lower bound']}, {info['upper bound']}). Sample narrower "
                    f"bounds of {', '.join(constraint.free_params)}."
                )
        return pd.DataFrame(columns, index=points.index)

    # Runs -------------------------------------------------------------------------------------

    def sample(
        self, verbose: bool = False, points: pd.DataFrame | None = None
    ) -> pd.DataFrame | None:
        """Simulates the model at all points, batch by batch.

        Args:
            verbose: show a progress bar.
            points: in place of those that `generate_parameters` makes. Its index are the ids.

        Returns:
            None; without `save_to_disk` the results, with rows (batch, ID, time).

        Raises:
            ValueError: the folder holds samples of another design; nothing is overwritten. Also what is
                wrong with the points, before anything is simulated.
        """
        import pandas as pd

        self.points = self.generate_parameters() if points is None else points
        table = self._table(self.points)
        store = Store(self.output_folder, self._design(table), "outputs_*")
        size = self.batchsize or len(table)
        batches = [slice(start, start + size) for start in range(0, len(table), size)]
        finished = {i for i in range(len(batches)) if self.save_to_disk and store.is_finished(i)}
        done = sum(len(table.iloc[batches[i]]) for i in finished)
        if finished:
            logger.info("%d of %d batches were finished before.", len(finished), len(batches))
        kept: list[Any] = []
        with ExitStack() as stack:
            label = f"Sampling {self.model.name}"
            advance = stack.enter_context(progress(len(table), label, show=verbose, done=done))
            runner = self._runner(stack)
            for batch, rows in enumerate(batches):
                if batch in finished:
                    continue
                with replacing(self.output_folder / f"parameters_{batch}.csv") as path:
                    table.iloc[rows].to_csv(path, index_label="id")
                outputs = runner(self.points.iloc[rows], batch, advance)
                if not self.save_to_disk:
                    kept.append(outputs)
                    continue
                store.begin()
                self.save_outputs(outputs, batch=batch)
                store.finish(batch, (f"parameters_{batch}.csv", self._file(batch)))
        if self.save_to_disk:
            return None
        return pd.concat(kept, axis=0, keys=range(len(kept)), names=["batch", *kept[0].index.names])

    def transform_outputs(self, raw_outputs: list[tuple], batch: int) -> pd.DataFrame:
        """The results of a batch, `(id, *simulation_args, frame)` each, as one table."""
        import pandas as pd

        names = list(raw_outputs[0][-1].index.names)
        if all(name is None for name in names):
            names = [f"index{i + 1}" for i in range(len(names))]
        frames = {result[0]: result[-1] for result in raw_outputs}
        return pd.concat(frames.values(), keys=frames.keys(), names=["ID", *names], axis=0)

    def save_outputs(self, data: pd.DataFrame, batch: int) -> None:
        """Writes the results of a batch; an interrupted write leaves no half file."""
        with replacing(self.output_folder / self._file(batch)) as path:
            _files.write(data, path, self.output_filetype, self.output_compression)

    def _file(self, batch: int) -> str:
        return f"outputs_{batch}.{self.output_filetype}"

    def _runner(self, stack: ExitStack) -> Callable[..., Any]:
        """`(points, batch, advance) -> results`, by the fastest way that does what is asked for."""
        if self._is_compiled():
            return self._compiled
        if self.worker_function is timeseries_worker and self.cpu_count == 1:
            call: Any = _in_this_process
        else:
            call = stack.enter_context(Workers(self.worker_function, self.cpu_count))

        def run(points: pd.DataFrame, batch: int, advance: Callable[[int], Any]) -> pd.DataFrame:
            raw = []
            for result in call(self.generate_tasks(points)):
                raw.append(result)
                advance(1)
            return self.transform_outputs(raw, batch=batch)

        return run

    def _is_compiled(self) -> bool:
        """Do compiled runs do all that is asked for?"""
        return (
            self.worker_function is timeseries_worker
            and type(self).generate_tasks is BaseSampler.generate_tasks
            and type(self.model).simulate is Model.simulate
            and len(self.simulation_args) < 2
            and _engine.is_compiled(self.model)
        )

    def _compiled(
        self, points: pd.DataFrame, batch: int, advance: Callable[[int], Any]
    ) -> pd.DataFrame:
        from ._compiled import Runs

        scenario = self.simulation_args[0] if self.simulation_args else 0
        runs = Runs(self.model, scenario, list(points.columns), np.array(points, float))
        as_usual = (
            type(self).transform_outputs is BaseSampler.transform_outputs
            and type(self.model.variables).to_pandas is Variables.to_pandas
        )
        if as_usual:
            return runs.table(points.index, advance)
        frames = runs.frames(advance)
        raw = [(i, *self.simulation_args, f) for i, f in zip(points.index, frames, strict=True)]
        return self.transform_outputs(raw, batch=batch)

    # What decides the results -----------------------------------------------------------------

    def _design(self, table: pd.DataFrame) -> dict[str, Any]:
        """What the files of a folder belong to, by name."""
        model, parameters = self.model, self.model.parameters
        sampled = [str(name) for name in self.points.columns]
        behavior = model.behavior
        definition = getattr(behavior, "definition", None)
        own = () if definition is None else (definition.initial_state, definition.step)
        noise = getattr(model, "noise", None)
        if noise is not None:
            arrays = {
                k: torch.as_tensor(v, device="cpu").detach().numpy() for k, v in noise.items()
            }
            noise = {name: _fingerprint.of_array(array) for name, array in arrays.items()}
        used = list(model.scenarios.timeseries)
        if self.worker_function is timeseries_worker:
            used = [model.scenarios.find(*self.simulation_args[:1] or (0,))]
        scenarios = {
            model.scenarios.info[i]["Name"]: {
                name: _fingerprint.of_array(path.detach().cpu().numpy())
                for name, path in model.scenarios.timeseries[i].items()
            }
            for i in used
        }
        hyper = {k: str(v) for k, v in parameters.hyper.items() if k != "device"}
        return {
            "macrostat-jax": importlib.metadata.version("macrostat-jax"),
            "model": f"{type(model).__module__}.{type(model).__qualname__}",
            "sampler": type(self).__qualname__,
            **self._settings(),
            "batchsize": self.batchsize or len(table),
            "points": _fingerprint.of_array(table[sampled].reset_index().to_numpy(str)),
            "parameters": {k: float(table[k].iloc[0]) for k in table if k not in sampled},
            "constraints": [[*c.param_names, c.target] for c in parameters.get_constraints()],
            "data": {
                k: _fingerprint.of_array(v.detach().cpu().numpy())
                for k, v in parameters.get_data_values().items()
            },
            "hyperparameters": hyper | {"dtype": str(output_dtype(parameters.hyper))},
            **({} if noise is None else {"noise": noise}),
            "scenarios": scenarios,
            "code": {
                "behavior": _fingerprint.of_class(behavior, Behavior),
                "equations": _fingerprint.of_code(*own),
                "worker_function": _fingerprint.of_code(self.worker_function),
            },
        }

    def _settings(self) -> dict[str, Any]:
        return {
            "bounds": {name: list(map(float, bound)) for name, bound in self.bounds.items()},
            "logspace": bool(self.logspace),
            "simulation_args": list(map(str, self.simulation_args)),
            "output_filetype": self.output_filetype,
            "output_compression": self.output_compression,
        }


def _in_this_process(tasks: list[tuple]) -> Iterator[tuple]:
    return map(timeseries_worker, tasks)
