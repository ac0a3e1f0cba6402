"""Differentiable macroeconomic simulation: models written once, compiled by JAX."""

from . import _import_jax as _import_jax  # isort: skip  (before whatever imports jax)
from ._compile import cache_directory as cache_directory
from ._compile import count_compilations as count_compilations
from ._constraints import AddingUp as AddingUp
from ._model import Model as Model
from ._packed import Packed as Packed
from ._record import NET_WORTH as NET_WORTH
from ._record import Axis as Axis
from ._record import Field as Field
from ._record import Matrix as Matrix
from ._record import Record as Record
from ._record import Scalar as Scalar
from ._record import Vector as Vector
from ._record import exogenous as exogenous
from ._record import flow as flow
from ._record import index as index
from ._record import noise as noise
from ._record import param as param
from ._record import stock as stock
from ._simulate import run_keys as run_keys
from ._simulate import simulate as simulate
from ._steady import steady_state as steady_state
from ._steady_states import SteadyStates as SteadyStates
from ._steady_states import steady_states as steady_states
from ._tables import to_pandas as to_pandas
from ._tables import to_xarray as to_xarray
from ._undefined import Undefined as Undefined
from ._undefined import undefined as undefined


def _warn_of_clash() -> None:
    import warnings

    from ._clash import clash

    if problem := clash():
        warnings.warn(problem, RuntimeWarning, stacklevel=3)


_warn_of_clash()
del _warn_of_clash
