"""The torch backend of the benchmark: every scenario runs, and agrees with JAX."""

import numpy as np
import pytest

from macrostat_jax import bench
from macrostat_jax.bench._cases import SCENARIOS


@pytest.fixture(scope="module")
def found():
    return bench.run(
        ["GL06SIM"],
        backends=["torch-eager"],
        periods=[5],
        batch=[4],
        budget=0.01,
        rounds=3,
        processes=1,
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_agrees_with_jax(found, scenario):
    (row,) = found[scenario, "torch-eager"]
    assert row.reason is None and row.note is None  # straight torch code, not interpreted
    assert row.agreement is not None and row.agreement < 1e-14
    assert row.median > 0 and np.isfinite(row.first).all()


def test_torch_says_what_it_is(found):
    about = found.backends["torch-eager"]
    assert "torch" in about["versions"] and about["limits"]["rate"] > 1e8
