# ruff: noqa: E402
"""The process of the published torch package, run by the Python that `--peer` names.

It sees that environment's packages alone: nothing of this project is imported but the file that speaks
with the driver, whose folder is the argument. Only the documented API is used.
"""

from __future__ import annotations

import sys

# In place of this folder, which has modules of the standard library's names; before anything else.
sys.path[0] = sys.argv[1]

import importlib.metadata
import logging
import platform
import time
import warnings
from typing import Any

from _protocol import Refused, repeat, serve  # pyright: ignore[reportMissingImports]

logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")

PATIENCE = 60.0
"""Seconds of a call that is known beforehand to take longer are not waited for."""
CHECKED_RUNS = 8
STREAM, SQUARE = 1 << 23, 1024
NONE = {
    "jvp": "product with a tangent",
    "vjp": "product with a cotangent",
    "hvp": "second derivative",
}


class Published:
    """Models of `macrostat.models`, derivatives of `macrostat.diff`; in float32, as it computes."""

    def hello(self) -> dict[str, Any]:
        try:
            import torch

            import macrostat
            import macrostat.diff
            import macrostat.models
        except ImportError as error:
            raise Refused(f"the environment of --peer lacks it: {error}") from None
        if getattr(macrostat, "__file__", None) is None:
            raise Refused("the environment of --peer has no package macrostat")
        names = ("macrostat", "torch", "numpy")
        if any(
            one.metadata["Name"] == "macrostat-jax" for one in importlib.metadata.distributions()
        ):
            raise Refused("the environment of --peer has macrostat-jax, not the published package")
        versions = {name: importlib.metadata.version(name) for name in names}
        return {
            "versions": {"python": platform.python_version(), **versions},
            "device": "cpu",
            "threads": torch.get_num_threads(),
        }

    def limits(self) -> dict[str, Any]:
        import torch

        x, a = torch.ones(STREAM), torch.ones(SQUARE, SQUARE)
        into = torch.empty_like(x)
        return {
            "bandwidth": 8 * STREAM / repeat(lambda: torch.add(x, 1, out=into)),
            "rate": 2 * SQUARE**3 / repeat(lambda: a @ a),
        }

    def prepare(self, case: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        if case["scenario"] in NONE:
            raise Refused(f"its documented API has no {NONE[case['scenario']]}")
        if case["sizes"]:
            raise Refused("its models have one size")
        if case["random"]:
            raise Refused("it draws noise of its own: neither paths nor derivatives compare")
        self.case = case
        self.model: Any = self._model(case)
        init = self.model.parameters.hyper["timesteps_initialization"]
        self.rows = slice(init + 1, init + 1 + case["periods"])
        self._call: Any = getattr(self, "_" + case["scenario"].replace("-", "_"))
        return {"dtype": "float32", "trace": time.perf_counter() - start, "compile": 0.0}

    def _model(self, case: dict[str, Any]) -> Any:
        from macrostat.models import get_model

        model: Any = get_model(case["model"])()
        hyper = model.parameters.hyper
        wanted = case["periods"] + hyper["timesteps_initialization"]
        if hyper["timesteps"] != wanted:
            # Its constructor does not take a horizon; its scenarios are made again for the one set here.
            hyper["timesteps"] = wanted
            model.scenarios = type(model.scenarios)(parameters=model.parameters)
        return model

    def call(self) -> None:
        self._call()

    def _simulate(self) -> dict[str, Any]:
        return self.model.simulate()

    def _loss(self, output: dict[str, Any]) -> Any:
        import torch

        names = [name for name in self.case["variables"] if name in output]
        return sum((torch.nan_to_num(output[n][self.rows]) ** 2).sum() for n in names) / 1e3

    def _paths(self, output: dict[str, Any]) -> Any:
        import torch

        names = [name for name in self.case["variables"] if name in output]
        rows = [output[name][self.rows] for name in names]
        return torch.cat([value.reshape(len(value), -1) for value in rows], dim=1)

    def _jacobian(self, of: Any, mode: str) -> dict[str, Any]:
        from macrostat.diff import JacobianAutograd

        return JacobianAutograd(self.model).compute(loss_fn=of, mode=mode)  # pyright: ignore

    def _gradient(self) -> dict[str, Any]:
        return self._jacobian(self._loss, "rev")

    def _jacobian_forward(self) -> dict[str, Any]:
        return self._jacobian(self._paths, "fwd")

    def _jacobian_reverse(self) -> dict[str, Any]:
        return self._jacobian(self._paths, "rev")

    def _sweep(self) -> list[dict[str, Any]]:
        """One after another: it has no batches. The first runs' outputs."""
        parameters, batch = self.model.parameters, self.case["batch"]
        base = {name: float(parameters[name]) for name in self.case["params"]}
        kept, start = [], time.perf_counter()
        try:
            for i in range(batch):
                factor = 1 + 1e-3 * (2 * i / max(batch - 1, 1) - 1)
                for name, value in base.items():
                    parameters[name] = value * factor
                output = self.model.simulate()
                if i < CHECKED_RUNS:
                    kept.append(output)
                if i == 3 and (time.perf_counter() - start) / 4 * batch > PATIENCE:
                    seconds = (time.perf_counter() - start) / 4 * batch
                    raise Refused(f"{batch:,} runs one after another would take {seconds:.0f} s")
        finally:
            for name, value in base.items():
                parameters[name] = value
        return kept

    def result(self, file: str) -> dict[str, Any]:
        """In our order and by our names, where there is the same variable or parameter."""
        import numpy as np

        found = self._call()
        params = self.case["params"]
        if self.case["scenario"] == "gradient":
            arrays = {"parameters": np.array([float(found[name]) for name in params])}
        elif self.case["scenario"].startswith("jacobian"):
            arrays = self._columns({name: found[name].detach().numpy() for name in params})
        elif self.case["scenario"] == "sweep":
            each = [self._named(output) for output in found]
            arrays = {key: np.stack([one[key] for one in each], axis=1) for key in each[0]}
        else:
            arrays = self._named(found)
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        return {}

    def _named(self, output: dict[str, Any]) -> dict[str, Any]:
        periods = self.case["periods"]
        return {
            key: output[name].detach().numpy()[self.rows].reshape(periods, *shape)
            for name, (key, shape) in self.case["variables"].items()
            if name in output
        }

    def _columns(self, found: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        names, at, arrays = self.model.simulate(), 0, {}
        for name, (key, shape) in self.case["variables"].items():
            if name not in names:
                continue
            width = int(np.prod(shape, dtype=int))
            columns = [
                found[p][:, at : at + width].reshape(-1, *shape) for p in self.case["params"]
            ]
            arrays[key] = np.stack(columns, axis=-1)
            at += width
        return arrays

    def reference(self, case: dict[str, Any], file: str) -> dict[str, Any]:
        raise Refused("the reference is JAX's")

    def drop(self) -> None:
        self._call = self.model = None


if __name__ == "__main__":
    serve(Published())
