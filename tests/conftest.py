"""Every test runs under strict dtype and rank promotion; those of the core in float64.

The torch API and the bridge choose their precision themselves, so their tests keep JAX's default of
float32 around them: under a global float64 a missing choice would not show.
"""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from macrostat_jax import _compile

CHOOSES_ITS_OWN = ("bridge", "macrostat")


def pytest_configure(config: pytest.Config) -> None:
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")


LARGE = ("GL06INSOUT", "ECO3IOPC", "Mark0COVID", "TwoMarketsABM")
OTHERWISE_SEEN = (
    "test_right_models_pass_at_random_parameters",  # test_right_models_pass, at the defaults
    "test_products_are_the_jacobian",  # test_forward_equals_reverse
    "test_finite_differences_bracket_the_exact_derivative",  # test_right_models_pass
    "test_theoretical_steady_states",  # tests/jax/test_steady.py
    "test_an_override_runs_in_eager_torch_and_agrees",  # test_torch_engine.py; the smaller models
    "test_files.py::test_every_model",  # test_torch_models.py; the smaller models
)
"""Tests over the register that take the largest models only in the exhaustive form; why that will do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name, _, case = item.nodeid.partition("[")
        if name.endswith(OTHERWISE_SEEN) and case.startswith(LARGE):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def precision(request: pytest.FixtureRequest) -> Iterator[None]:
    folder = request.path.relative_to(Path(__file__).parent).parts[0]
    with jax.enable_x64(folder not in CHOOSES_ITS_OWN):
        yield


@pytest.fixture(autouse=True, scope="module")
def programs_are_let_go() -> Iterator[None]:
    """Every compiled program holds some memory maps, of which a process may have 65,530 on Linux: a
    run of the whole suite would reach that, and end in a segmentation fault."""
    yield
    _compile.forget()


@pytest.fixture
def float32(precision: None) -> Iterator[None]:
    """JAX as it comes: float64 is off."""
    with jax.enable_x64(False):
        yield
