"""Model ECO-3IO-PC: its physical accounts, its climate, and what the published package gets wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import randomly
from published_cases import WRONG_THERE, published

from macrostat_jax import simulate
from macrostat_jax.models import ECO3IOPC, IOPC


def before(path, initial, key):
    """A stock at the end of the period before."""
    values = getattr(path, key)
    first = jnp.broadcast_to(jnp.asarray(getattr(initial, key), values.dtype), values.shape[1:])
    return jnp.concatenate([first[None], values[:-1]])


def physical_residuals(path, initial):
    """Tables 4 and 5 of the notes: what goes in and what comes out, of matter, energy and carbon."""

    def change(key):
        return getattr(path, key) - before(path, initial, key)

    return {
        "matter of industries": path.extracted_matter
        + path.recycled_socioeconomic_stock
        + path.carbon_mass_of_energy
        + path.mass_of_oxygen
        - path.emissions
        - path.discarded_socioeconomic_stock
        - change("socioeconomic_stock"),
        "waste": path.extracted_matter - change("socioeconomic_stock") - path.waste,
        "energy of industries": path.renewable_energy
        + path.non_renewable_energy
        - path.energy_required_for_production,
        "matter reserves": path.conversion_matter_to_reserves
        - path.extracted_matter
        - change("matter_reserves"),
        "matter resources": change("matter_resources") + path.conversion_matter_to_reserves,
        "energy reserves": path.conversion_energy_to_reserves
        - path.non_renewable_energy
        - change("energy_reserves"),
        "energy resources": change("energy_resources") + path.conversion_energy_to_reserves,
        "CO2 in the air": path.emissions - change("cumulative_co2"),
        "carbon in CO2": path.emissions - path.carbon_mass_of_energy - path.mass_of_oxygen,
    }


def start(params):
    return ECO3IOPC.initial_state(params, ECO3IOPC.scenario()[0])


def shocked():
    """A scenario in which everything moves: spending, wages and the rate of interest."""
    return ECO3IOPC.scenario(start=20, government_demand=25.0, wage_rate=0.5, interest_rate=0.035)


def climate(**values):
    """Parameters under which warming matters and energy becomes cleaner; both are 0 by default."""
    params = {
        "propensity_to_consume_income_temperature": 0.02,
        "co2_intensity_non_renewable_energy_growth": 0.01,
    }
    return ECO3IOPC.params(**{**params, **values})


@pytest.mark.parametrize("params", [ECO3IOPC.params(), climate(), randomly(ECO3IOPC, 2, 8)])
def test_matter_energy_and_carbon_are_conserved(params):
    path = simulate(ECO3IOPC, params, shocked())
    for label, value in physical_residuals(path, start(params)).items():
        assert value.shape[0] == 100
        # Stocks of 4e5 and 5e5, rounded.
        assert np.max(np.abs(value)) < 1e-9, label


def test_matter_energy_and_carbon_are_conserved_in_every_derivative():
    params = jax.tree.map(jnp.asarray, climate())

    def run(params):
        path = simulate(ECO3IOPC, params, shocked())
        return physical_residuals(path, start(params))

    scale = max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(simulate(ECO3IOPC, params)))
    for label, derivatives in jax.jit(jax.jacfwd(run))(params).items():
        for name in ECO3IOPC.Params.fields:
            assert np.max(np.abs(getattr(derivatives, name))) < 1e-10 * scale, (label, name)


def test_a_lost_gram_is_caught():
    """The physical accounts can fail: a millionth of what is discarded vanishes."""
    path = simulate(ECO3IOPC)
    lost = jnp.cumsum(1e-6 * path.discarded_socioeconomic_stock)
    path = path.replace(socioeconomic_stock=path.socioeconomic_stock - lost)
    found = physical_residuals(path, start(ECO3IOPC.params()))
    wrong = {label for label, value in found.items() if np.max(np.abs(value)) > 1e-9}
    assert wrong == {"matter of industries", "waste"}


def test_what_was_in_the_ground_is_there_or_was_taken():
    params = climate()
    path, initial = simulate(ECO3IOPC, params, shocked()), start(params)
    matter = path.matter_resources + path.matter_reserves + jnp.cumsum(path.extracted_matter)
    np.testing.assert_allclose(matter, 388_889.0 + 6_000.0, rtol=1e-14)
    energy = path.energy_resources + path.energy_reserves + jnp.cumsum(path.non_renewable_energy)
    np.testing.assert_allclose(energy, 542_000.0 + 37_000.0, rtol=1e-14)
    periods = np.arange(1, 101)
    for rate, resources, conversion in (
        (0.0005, "matter_resources", "conversion_matter_to_reserves"),
        (0.003, "energy_resources", "conversion_energy_to_reserves"),
    ):
        left = getattr(initial, resources) / (1 + rate) ** periods
        np.testing.assert_allclose(getattr(path, resources), left, rtol=1e-13)
        np.testing.assert_allclose(getattr(path, conversion), rate * left, rtol=1e-13)


def test_durable_goods_were_bought_and_not_yet_discarded():
    path = simulate(ECO3IOPC)
    share, zeta = np.array([0.15, 0.35, 0.5]), np.array([0.025, 0.035, 0.02])
    bought = share * np.asarray(path.real_consumption_household)[:, None]
    age = np.arange(100)[:, None] - np.arange(100)  # of what was bought in period s, in period t
    left = np.where(age[..., None] >= 0, (1 - zeta) ** np.maximum(age, 0)[..., None], 0.0)
    stock = np.einsum("tsi,si->ti", left, bought)
    np.testing.assert_allclose(path.durable_goods_stock, stock, rtol=1e-12)
    discarded = (zeta * stock[:-1]) @ [0.4, 0.7, 0.3]
    np.testing.assert_allclose(path.discarded_socioeconomic_stock[1:], discarded, rtol=1e-12)
    np.testing.assert_allclose(path.waste[1:], 0.8 * discarded, rtol=1e-12)  # a fifth is recycled


def test_energy_and_the_climate_by_hand():
    params = climate()
    path = simulate(ECO3IOPC, params)
    output = np.asarray(path.real_gross_output)
    per_unit = np.array([8.0, 6.0, 3.0]) * (1 - np.array([0.12, 0.15, 0.18]))
    intensity = 0.07 * 0.99 ** np.arange(1, 101)
    emissions = intensity * (output @ per_unit)
    warming = 0.00165 / (1 - 0.34) * np.cumsum(emissions)
    np.testing.assert_allclose(path.emissions, emissions, rtol=1e-12)
    np.testing.assert_allclose(path.total_emissions, emissions, rtol=1e-12)
    np.testing.assert_allclose(path.co2_intensity_non_renewable_energy, intensity, rtol=1e-12)
    np.testing.assert_allclose(path.carbon_mass_of_energy, emissions / 3.67, rtol=1e-12)
    np.testing.assert_allclose(path.temperature, warming, rtol=1e-12)
    # Households react in the next period, to interest and to warming.
    earlier = np.concatenate([[0.0], warming[:-1]])
    rate = np.array([0.0] + [0.025] * 99)
    propensity = 0.8 - 8 * rate - 0.02 * earlier
    assert np.min(propensity) > 0.2
    np.testing.assert_allclose(path.propensity_to_consume_income, propensity, rtol=1e-12)


def test_without_a_climate_it_is_model_iopc():
    scenario = shocked()
    path = simulate(ECO3IOPC, scenario=scenario)
    economy = simulate(IOPC, scenario=scenario)
    for key in IOPC.State.fields:
        np.testing.assert_allclose(
            getattr(path, key), getattr(economy, key), rtol=1e-13, atol=1e-13, err_msg=key
        )
    warming = simulate(ECO3IOPC, climate(), scenario)
    assert np.all(warming.wealth[2:] != economy.wealth[2:])


def test_nobody_spends_less_than_nothing_of_an_income():
    """Where warming takes the whole propensity, wealth alone is spent; the corner can be rounded."""
    params = climate(propensity_to_consume_income_temperature=1.0)
    exact = simulate(ECO3IOPC, params)
    at_zero = exact.propensity_to_consume_income == 0
    assert 3 < int(np.argmax(at_zero)) < 20 and np.all(at_zero[20:])
    np.testing.assert_allclose(
        exact.real_consumption_household[20:],
        0.4 * exact.wealth[19:-1] / exact.consumer_price_index[20:],
        rtol=1e-12,
    )
    distances = []
    for sharpness in (50.0, 500.0, 5_000.0):
        model = ECO3IOPC.configure(sharpness=sharpness)
        # One step from the exact path: what the propensity itself is off by.
        after = jax.vmap(lambda state, model=model: model.step(state, params, model.scenario()[0]))(
            exact
        )
        distance = after.propensity_to_consume_income[:-1] - exact.propensity_to_consume_income[1:]
        assert np.all(distance >= 0) and np.max(distance) <= np.log(2) / sharpness
        path = simulate(model, params)
        distances.append(float(np.max(np.abs(path.national_income - exact.national_income))))

        def last_income(params, model=model):
            return simulate(model, params).national_income[-1]

        gradient = jax.jit(jax.grad(last_income))(jax.tree.map(jnp.asarray, params))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    assert distances[0] < 1.0 and distances[1] < 0.1 and distances[2] < 0.01, distances


def test_what_the_published_package_gets_wrong():
    """Both variants, from the same flows: the published stocks come out, and do not add up."""
    facts = published("ECO3IOPC")
    run = facts["runs"][0]
    # Two rows are initial; goods are bought from the second period on, and discarded from the third.
    rows = np.array(run["rows"][4:])
    path = simulate(ECO3IOPC, scenario=ECO3IOPC.scenario()[1:])
    made = np.asarray(path.raw_material_production)
    discarded = np.asarray(path.discarded_socioeconomic_stock)
    late = np.concatenate([[0.0], discarded[:-1]])
    converted = np.asarray(path.conversion_energy_to_reserves)
    published_variants = {
        "SocioeconomicStock": np.cumsum(made - late),
        "Waste": late - np.asarray(path.recycled_socioeconomic_stock),
        "EnergyReserves": 37_000
        + np.cumsum(converted - np.asarray(path.energy_required_for_production)),
    }
    right = {
        "SocioeconomicStock": np.cumsum(made - discarded),
        "Waste": discarded - np.asarray(path.recycled_socioeconomic_stock),
        "EnergyReserves": 37_000 + np.cumsum(converted - np.asarray(path.non_renewable_energy)),
    }
    assert set(published_variants) == set(WRONG_THERE["ECO3IOPC"])
    for name, values in published_variants.items():
        theirs = np.array(run["path"][name])[4:]
        # Single precision: sums of a hundred changes of resources of 542,000.
        np.testing.assert_allclose(values[rows - 2], theirs, rtol=2e-4, atol=2e-4, err_msg=name)
        np.testing.assert_allclose(path[name], right[name], rtol=1e-12, atol=1e-9)
        assert np.all(np.abs(path[name][rows - 2] - theirs) > 0.05), name
    # Their industries' matter does not balance: what is discarded now leaves the stock a period late.
    their_change = made - late
    gap = np.asarray(path.extracted_matter + path.recycled_socioeconomic_stock)
    gap = gap - discarded - their_change
    np.testing.assert_allclose(gap, late - discarded, atol=1e-9)
    assert np.max(np.abs(gap)) > 0.5
    # Their energy reserves also lose the sun and the wind: 13 thousand EJ in a hundred periods.
    lost = right["EnergyReserves"] - published_variants["EnergyReserves"]
    np.testing.assert_allclose(lost, np.cumsum(path.renewable_energy), rtol=1e-10)
    assert lost[-1] > 13_000


def test_random_parameters_have_finite_derivatives():
    """The published package has NaN here, in reverse, from the first period on."""
    # All 64 technologies of this seed can reproduce themselves; of a thousand, 15 cannot.
    params = randomly(ECO3IOPC, 7, size=64)

    def loss(params):
        path = simulate(ECO3IOPC, params, periods=40)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(path))

    gradients = jax.jit(jax.vmap(jax.grad(loss)))(params)
    for name, leaf in vars(gradients).items():
        assert np.all(np.isfinite(leaf)), name
