"""Paths of some of the variables only: the same values, without the memory of the others."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import (
    Axis,
    Matrix,
    Model,
    Record,
    Scalar,
    Vector,
    index,
    models,
    noise,
    run_keys,
    simulate,
    to_pandas,
    to_xarray,
)
from macrostat_jax.accounts import residuals

SIM = models.GL06SIM


@pytest.mark.parametrize("checkpoint", [False, True])
def test_what_is_recorded_is_the_same(checkpoint):
    path = simulate(SIM, periods=10)
    some: Any = simulate(
        SIM, periods=10, record=("HouseholdMoneyStock", "tax_supply"), checkpoint=checkpoint
    )
    np.testing.assert_allclose(some.tax_supply, path.tax_supply, rtol=1e-13)
    np.testing.assert_allclose(some.household_money_stock, path.household_money_stock, rtol=1e-13)
    left = [key for key in SIM.State.fields if getattr(some, key) is None]
    assert len(left) == len(SIM.State.fields) - 2
    assert some[-1].tax_supply == some.tax_supply[-1]
    batch: Any = simulate(
        SIM, SIM.params(tax_rate=np.array([0.2, 0.3])), periods=10, record=["tax_supply"]
    )
    np.testing.assert_allclose(batch.tax_supply[:, 0], path.tax_supply, rtol=1e-13)

    def last(rate: Any, **more: Any) -> Any:
        return simulate(SIM, SIM.params(tax_rate=rate), periods=10, **more).tax_supply[-1]

    slope = jax.grad(last)(0.2, record=["tax_supply"], checkpoint=checkpoint)
    np.testing.assert_allclose(slope, jax.grad(last)(0.2), rtol=1e-12)


AGENT = Axis("agent", size=20_000)


class Nothing(Record):
    pass


class Luck(Record):
    luck: Vector = noise("normal", shape=AGENT)


class Sums(Record):
    total: Vector = index("x", shape=AGENT)
    mean: Scalar = index("m")


def _walk(prior: Any, params: Any, scenario: Any, noise: Any) -> Any:
    total = prior.total + noise.luck
    return Sums(total=total, mean=jnp.mean(total))


WALKS = Model(
    "WALKS", Nothing, Nothing, Sums, lambda p, x: Sums.filled(0.0), _walk, Noise=Luck, periods=50
)


def test_what_is_not_recorded_takes_no_memory():
    def mean(keys: Any) -> Any:
        return simulate(WALKS, key=keys, record=["mean"])

    for keys in (jax.random.key(0), run_keys(0, 3)):
        compiled: Any = jax.jit(mean).lower(keys).compile()
        memory = compiled.memory_analysis()
        taken = memory.temp_size_in_bytes + memory.output_size_in_bytes
        assert taken < keys.size * AGENT.size * 4 * 20, taken  # the path has 50 rows


def test_datasets_have_dimensions_of_one_size_each():
    side = Axis("side", ("A", "B"))

    class Shapes(Record):
        two: Vector = index("a", shape=2)
        three: Vector = index("b", shape=3)
        flows: Matrix = index("c", shape=(side, side))
        share: Vector = index("d", shape=side)

    model = Model(
        "SHAPES",
        Nothing,
        Nothing,
        Shapes,
        lambda p, x: Shapes.filled(0.0),
        lambda q, p, x: q,
        periods=4,
    )
    path = simulate(model)
    data = path.to_xarray()
    dims = {name: variable.dims[1:] for name, variable in data.items()}
    assert dims == {
        "two": ("dim_0",), "three": ("three_1",), "flows": ("side", "flows_2"), "share": ("side",)
    }  # fmt: skip
    assert list(data["side"]) == list(data["flows_2"]) == ["A", "B"]
    with pytest.raises(ValueError, match=r"two has the shape .*: a dataset has one batch axis"):
        jax.tree.map(lambda leaf: leaf[:, None, None], path).to_xarray()


def test_errors_and_tables():
    with pytest.raises(KeyError, match="'wealth' is not in"):
        simulate(SIM, record=["wealth"])
    with pytest.raises(TypeError, match=r"record takes several names, \('tax_supply',\), not one"):
        simulate(SIM, record="tax_supply")
    path = simulate(SIM, record=["tax_supply"])
    with pytest.raises(ValueError, match="need 'government_money_stock', of which this path"):
        residuals(SIM, path)
    assert list(to_pandas(path).columns) == ["TaxSupply"]
    assert list(to_xarray(path)) == ["tax_supply"]
