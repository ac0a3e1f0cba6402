"""Morris screening: which parameters matter at all, from few runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._model import Model
from ..sample import Design
from . import _designs, _outputs, _tables
from ._designs import Bounds, Log
from ._outputs import Of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Table = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Screening:
    """Elementary effects of all outputs. Made by `morris` and `morris_from`.

    An elementary effect is the change of an output when one parameter moves, per range of the parameter:
    in the unit of the output. Over the trajectories, `mu_star` is the mean of their sizes (how much the
    parameter matters), `mu` their mean (with the sign), `sigma` their standard deviation (how much it
    depends on where one stands: curvature and interactions).

    Attributes:
        names: the d parameters.
        mu, mu_star, sigma: output -> array (d, *shape of the output).
        mu_star_error: the standard error of `mu_star`.
        trajectories, runs: how many were used.
        nonfinite, dropped: how many runs were not finite, and how many trajectories were left out for it.
        about: what was run, for the heading.
    """

    names: tuple[str, ...]
    mu: Table
    mu_star: Table
    mu_star_error: Table
    sigma: Table
    trajectories: int
    runs: int
    nonfinite: int = 0
    dropped: int = 0
    about: str = ""

    def to_pandas(self) -> pd.DataFrame:
        """A row per output number and parameter: mu, mu_star, mu_star_error, sigma."""
        columns = {
            "mu": self.mu,
            "mu_star": self.mu_star,
            "mu_star_error": self.mu_star_error,
            "sigma": self.sigma,
        }
        return _tables.tidy(self.names, columns)

    def to_dict(self) -> dict[str, Any]:
        """The means over an output's elements, of what JSON can hold."""
        columns = ("mu", "mu_star", "mu_star_error", "sigma")
        return {
            "method": "morris",
            "runs": self.runs,
            "nonfinite": self.nonfinite,
            "dropped_trajectories": self.dropped,
            "outputs": {
                label: {
                    name: {c: _tables.number(self._mean(c, label)[i]) for c in columns}
                    for i, name in enumerate(self.names)
                }
                for label in self.mu
            },
        }

    def plot(self, output: str | None = None) -> Figure:
        """`plot.screening`: each parameter by the size of its effects and by their spread."""
        from ..plot import screening

        return screening(self, output)

    def __str__(self) -> str:
        lines = [
            f"Morris screening{self.about}",
            f"  {self.runs} runs in {self.trajectories} trajectories.",
        ]
        if self.nonfinite:
            lines.append(
                f"  {self.nonfinite} runs were not finite: {self.dropped} trajectories were left out."
            )
        if any(array.ndim > 1 for array in self.mu.values()):
            lines.append("  Of paths and arrays: the mean over their elements.")
        for label in self.mu:
            lines += ["", *self._block(label)]
        return "\n".join(lines)

    __repr__ = __str__

    def _mean(self, column: str, label: str) -> np.ndarray:
        array = getattr(self, column)[label]
        return array.reshape(len(array), -1).mean(axis=1)

    def _block(self, label: str) -> list[str]:
        columns = ("mu_star", "mu_star_error", "mu", "sigma")
        star, error, mu, sigma = (self._mean(column, label) for column in columns)
        rows = [
            [
                self.names[i],
                f"{_tables.figures(star[i])} ± {1.96 * error[i]:.2g}",
                _tables.figures(mu[i]),
                _tables.figures(sigma[i]),
            ]
            for i in np.argsort(-star, kind="stable")
        ]
        return _tables.aligned([[label, "mu* (± 95 %)", "mu", "sigma"], *rows])


def morris(
    what: Model | Callable[[np.ndarray], Any],
    n: int,
    bounds: Bounds | None = None,
    *,
    of: Of = None,
    levels: int = 4,
    nonfinite: str = "raise",
    log: Log = False,
    seed: int = 0,
    **options: Any,
) -> Screening:
    """Elementary effects of all outputs at once, from n trajectories of d + 1 runs.

    Args:
        what, bounds, of, options: as for `sobol`.
        n: how many trajectories, at least 2; 10 to 100 is usual.
        levels: of the grid: an even number.
        nonfinite: what to do where runs are not finite: "raise", or "drop" the trajectories they are in.
        log, seed: as for `sample.sobol`. With `log`, the range is one of logarithms.

    Raises:
        ValueError: runs that are not finite; and as `trajectories` and `sample.sweep`.

    Source: Morris (1991), Technometrics 33, 161-174; mu_star: Campolongo, Cariboni and Saltelli (2007),
    Environmental Modelling and Software 22, 1509-1518.
    """
    model = what if isinstance(what, Model) else None
    design = _designs.trajectories(model, n, bounds, levels=levels, log=log, seed=seed)
    outputs = _outputs.evaluate(what, design, of, options)
    return _effects(design, outputs, nonfinite, f" of {model.name}" if model else "")


def morris_from(
    design: Design, values: Any, *, axis: int = 0, nonfinite: str = "raise"
) -> Screening:
    """The effects of runs that were made elsewhere: `design` is from `trajectories`, `values` of its runs.

    Args:
        design: the whole design, whose runs come in its order.
        values: an array, or a pytree of arrays, with the runs on `axis`: `sweep(...).values`.
        axis: that of the runs; 1 for the whole paths of a sweep (`Sweep.axis`).
        nonfinite: as for `morris`.

    Raises:
        ValueError: another design, or runs that are missing; and as `morris`.
    """
    return _effects(design, _outputs.of_runs(values, len(design), axis), nonfinite, "")


def _effects(design: Design, outputs: _outputs.Outputs, nonfinite: str, about: str) -> Screening:
    origin = _designs.require(design, "morris", "trajectories", outputs.matrix)
    groups, d = origin["groups"], len(design.names)
    good, bad = _outputs.finite_groups(outputs, groups, nonfinite, "trajectories")
    points = design.points.reshape(groups, d + 1, d)[good]
    runs = outputs.matrix.reshape(groups, d + 1, -1)[good]
    moves = np.diff(points, axis=1)  # one entry of each row is not zero
    moved = np.argmax(moves != 0, axis=2)
    sign = np.sign(np.take_along_axis(moves, moved[:, :, None], axis=2))
    share = origin["levels"] / (2 * (origin["levels"] - 1))
    changes = np.diff(runs, axis=1) * sign / share
    effects = np.empty_like(changes)  # (trajectories, d, outputs), by parameter instead of by turn
    np.put_along_axis(effects, moved[:, :, None], changes, axis=1)
    count = len(effects)
    sizes = np.abs(effects)
    with np.errstate(over="ignore", invalid="ignore"):  # of 1e200 and more: infinite
        moments = (
            effects.mean(axis=0),
            sizes.mean(axis=0),
            sizes.std(axis=0, ddof=1) / np.sqrt(count),
            effects.std(axis=0, ddof=1),
        )
    mu, mu_star, error, sigma = (outputs.split(moment) for moment in moments)
    return Screening(
        design.names,
        mu=mu,
        mu_star=mu_star,
        mu_star_error=error,
        sigma=sigma,
        trajectories=count,
        runs=count * (d + 1),
        nonfinite=bad,
        dropped=groups - count,
        about=about,
    )
