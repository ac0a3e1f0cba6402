r"""Model ECO-3IO-PC: portfolio choice, three industries and the ecosystem they live on.

Veronese Passarella (2025), *Model ECO-3IO-PC*, in the lecture notes that go with the R code at
https://github.com/marcoverpas/keynote_speech_Florence, section 2.3 (equations 20 to 40 and 12.A), on model
IOPC, its section 2.2. The ecosystem follows Dafermos, Nikolaidi and Galanis (2017), *A
stock-flow-fund ecological macroeconomic model*, Ecological Economics 131.

What industries produce takes matter (Gt) and energy (EJ). Matter comes from the reserves, or from
what is recycled, and becomes part of the socio-economic stock until it is discarded. Energy is
renewable, or comes from the reserves and emits CO2 (Gt), which warms the atmosphere (degrees
Celsius). Warming may make households spend less. Reserves are replenished from resources.

The notes let households spend less the more the temperature rises in the period; here, as in the
published package, the more it has risen since the start. Equation 38 as printed takes all energy
from the reserves; here, as in the R code and in Dafermos et al., they lose what is not renewable.
"""

from __future__ import annotations

import jax.numpy as jnp

from .. import smooth
from .._model import Model
from .._record import Matrix, Record, Scalar, Vector, index, param
from . import iopc
from .iopc import SECTORS, Scenario


class Params(Record):
    tax_rate: Scalar = param(0.2, symbol=r"\theta", bounds=(0, 1), unit="% per period")
    propensity_to_consume_income_base: Scalar = param(
        0.8, symbol=r"\alpha_{10}", bounds=(0, 1), unit="."
    )
    propensity_to_consume_income_interest: Scalar = param(
        8.0, symbol=r"\alpha_{11}", bounds=(0, 10), unit="."
    )
    propensity_to_consume_income_temperature: Scalar = param(
        0.0, symbol=r"\alpha_{12}", bounds=(0, 10), unit="."
    )
    propensity_to_consume_savings: Scalar = param(0.4, symbol=r"\alpha_2", bounds=(0, 1), unit=".")
    wealth_share_bills_constant: Scalar = param(
        0.635, symbol=r"\lambda_0", bounds=(0, 1), unit=".", name="WealthShareBills_Constant"
    )
    wealth_share_bills_interest_rate: Scalar = param(
        5.0, symbol=r"\lambda_1", bounds=(0, 10), unit=".", name="WealthShareBills_InterestRate"
    )
    wealth_share_bills_income: Scalar = param(
        0.01, symbol=r"\lambda_2", bounds=(0, 1), unit=".", name="WealthShareBills_Income"
    )
    markup: Scalar = param(0.875, symbol=r"\mu", bounds=(0, 1), unit=".")
    labour_productivity: Vector = param(
        (3.5, 5.0, 2.2), symbol="pr_i", bounds=(0, 10), unit=".", shape=SECTORS
    )
    household_budget_share: Vector = param(
        [0.15, 0.35, 0.5], symbol=r"\bar{\beta}_{C,i}", bounds=(0, 1), unit=".", shape=SECTORS
    )
    government_budget_share: Vector = param(
        [0.1, 0.3, 0.6], symbol=r"\bar{\beta}_{G,i}", bounds=(0, 1), unit=".", shape=SECTORS
    )
    requirement: Matrix = param(
        [[0.11, 0.12, 0.1], [0.21, 0.22, 0.2], [0.15, 0.18, 0.1]],
        symbol="a_{i,j}",
        bounds=(0, 1),
        unit=".",
        shape=(SECTORS, SECTORS),
    )
    material_intensity: Vector = param(
        [0.4, 0.7, 0.3], symbol="m_{mat,i}", bounds=(0, 1), unit=".", shape=SECTORS
    )
    discarded_stock_share: Vector = param(
        [0.025, 0.035, 0.02], symbol=r"\zeta_{i}", bounds=(0, 1), unit=".", shape=SECTORS
    )
    energy_intensity: Vector = param(
        [8.0, 6.0, 3.0], symbol=r"\epsilon_{en,i}", bounds=(0, 10), unit=".", shape=SECTORS
    )
    renewable_energy_use_share: Vector = param(
        [0.12, 0.15, 0.18], symbol=r"\eta_{en,i}", bounds=(0, 1), unit=".", shape=SECTORS
    )
    recycling_rate: Scalar = param(0.2, symbol=r"\rho_{dis}", bounds=(0, 1), unit=".")
    co2_intensity_non_renewable_energy_growth: Scalar = param(
        0.0,
        symbol=r"\Delta_\%\beta_e",
        bounds=(0, 1),
        unit=".",
        name="CO2IntensityNonRenewableEnergyGrowth",
    )
    transient_climate_response_cum_co2: Scalar = param(
        0.00165, symbol="tcre", bounds=(0, 1), unit=".", name="TransientClimateResponseCumCO2"
    )
    non_co2_anthropocentric_forcing: Scalar = param(
        0.34, symbol="fnc", bounds=(0, 1), unit=".", name="NonCO2AnthropocentricForcing"
    )
    matter_to_resource_conversion_rate: Scalar = param(
        0.0005, symbol=r"\sigma_m", bounds=(0, 1), unit="."
    )
    carbon_to_co2_conversion: Scalar = param(
        3.67, symbol="car", bounds=(0, 10), unit=".", name="CarbonToCO2Conversion"
    )
    energy_to_resource_conversion_rate: Scalar = param(
        0.003, symbol=r"\sigma_e", bounds=(0, 1), unit="."
    )


class State(iopc.State):
    propensity_to_consume_income: Scalar = index(
        r"\alpha_1",
        r"\max(0, \alpha_{10} - \alpha_{11} r_{-1} - \alpha_{12} (temp_{-1} - temp_0))",
        ref="12.A",
        sector="Household",
        unit=".",
    )

    # Matter
    raw_material_production: Scalar = index("x_{mat}", r"\sum_i m_{mat,i} x_i", ref="20", unit=".")
    extracted_matter: Scalar = index("mat", "x_{mat} - rec", ref="21", unit=".")
    recycled_socioeconomic_stock: Scalar = index("rec", r"\rho_{dis} dis", ref="22", unit=".")
    discarded_socioeconomic_stock: Scalar = index(
        "dis", r"\sum_i m_{mat,i} \zeta_i dc_{i,-1}", ref="23", unit="."
    )
    socioeconomic_stock: Scalar = index("k_h", "k_{h,-1} + x_{mat} - dis", ref="25", unit=".")

    # Energy and emissions
    energy_required_for_production: Scalar = index(
        "en", r"\sum_i \epsilon_{en,i} x_i", ref="27", unit="."
    )
    renewable_energy: Scalar = index(
        "ren", r"\sum_i \epsilon_{en,i} \eta_{en,i} x_i", ref="28", unit="."
    )
    non_renewable_energy: Scalar = index("nen", "en - ren", ref="29", unit=".")
    co2_intensity_non_renewable_energy: Scalar = index(
        r"\beta_e",
        r"\beta_{e,-1} (1 - \Delta_\%\beta_e)",
        unit=".",
        name="CO2IntensityNonRenewableEnergy",
    )
    cumulative_co2: Scalar = index(
        "co2_{cum}", "co2_{cum,-1} + emis", ref="31", unit=".", name="CumulativeCO2"
    )
    # The notes' mat - (k_h - k_{h,-1}), with 21 and 25 put in.
    waste: Scalar = index("wa", "dis - rec", ref="26", unit=".")
    temperature: Scalar = index(
        "temp", r"\frac{1}{1 - fnc} tcre \cdot co2_{cum}", ref="32", unit="."
    )
    initial_temperature: Scalar = index("temp_0", "temp_{0,-1}", unit=".")

    # Reserves, and the resources that they are replenished from
    matter_reserves: Scalar = index("k_m", "k_{m,-1} + conv_m - mat", ref="33", unit=".")
    conversion_matter_to_reserves: Scalar = index("conv_m", r"\sigma_m res_m", ref="34", unit=".")
    matter_resources: Scalar = index("res_m", "res_{m,-1} - conv_m", ref="35", unit=".")
    energy_reserves: Scalar = index("k_e", "k_{e,-1} + conv_e - nen", ref="38", unit=".")
    conversion_energy_to_reserves: Scalar = index("conv_e", r"\sigma_e res_e", ref="39", unit=".")
    energy_resources: Scalar = index("res_e", "res_{e,-1} - conv_e", ref="40", unit=".")
    durable_goods_stock: Vector = index(
        "dc_i",
        r"dc_{i,-1} + \bar{\beta}_{C,i} c - \zeta_i dc_{i,-1}",
        ref="24",
        unit=".",
        shape=SECTORS,
    )
    total_emissions: Scalar = index("emis_{tot}", "emis", unit=".")
    carbon_mass_of_energy: Scalar = index("cen", r"\frac{emis}{car}", ref="36", unit=".")
    mass_of_oxygen: Scalar = index("o2", "emis - cen", ref="37", unit=".")
    # The intensity has two public names: this one is spelt with the digit zero.
    c02_intensity_non_renewable_energy: Scalar = index(r"\tilde{\beta}_e", r"\beta_e", unit=".")
    emissions: Scalar = index("emis", r"\beta_e nen", ref="30", unit=".")


def initial_state(params: Params, scenario: Scenario) -> State:
    """Neither money nor goods, all prices 1; of nature, what the notes start from in Gt and EJ."""
    return State.filled(0.0).replace(
        prices=1.0,
        consumer_price_index=1.0,
        consumer_price_inflation=1.0,
        government_price_index=1.0,
        matter_reserves=6_000.0,
        matter_resources=388_889.0,
        energy_reserves=37_000.0,
        energy_resources=542_000.0,
        co2_intensity_non_renewable_energy=0.07,
        c02_intensity_non_renewable_energy=0.07,
    )


def step(
    prior: State, params: Params, scenario: Scenario, *, sharpness: float | None = None
) -> State:
    """One period: prices, spending, output and portfolios, then what they do to the ecosystem.

    The propensity to consume cannot fall below zero. With `sharpness` that corner is rounded off:
    the propensity is then above the exact one, by at most log(2) / sharpness (at the corner).
    """
    economy = iopc.step(prior, at_temperature(prior, params, sharpness), scenario)
    output = economy.real_gross_output
    bought = params.household_budget_share * economy.real_consumption_household

    # Matter: what is discarded is recycled or wasted.
    discarded_goods = params.discarded_stock_share * prior.durable_goods_stock
    durable_goods = prior.durable_goods_stock + bought - discarded_goods
    discarded = params.material_intensity @ discarded_goods
    recycled = params.recycling_rate * discarded
    material = params.material_intensity @ output
    extracted = material - recycled

    # Energy that is not renewable takes carbon from the ground and oxygen from the air.
    energy = params.energy_intensity @ output
    renewable = params.energy_intensity @ (params.renewable_energy_use_share * output)
    non_renewable = energy - renewable
    co2_intensity = prior.co2_intensity_non_renewable_energy * (
        1 - params.co2_intensity_non_renewable_energy_growth
    )
    emissions = co2_intensity * non_renewable
    cumulative_co2 = prior.cumulative_co2 + emissions
    temperature = (
        params.transient_climate_response_cum_co2
        * cumulative_co2
        / (1 - params.non_co2_anthropocentric_forcing)
    )
    carbon = emissions / params.carbon_to_co2_conversion

    # A share of the resources that are left becomes reserves: (34) in (35), and (39) in (40).
    matter_resources = prior.matter_resources / (1 + params.matter_to_resource_conversion_rate)
    matter_converted = params.matter_to_resource_conversion_rate * matter_resources
    energy_resources = prior.energy_resources / (1 + params.energy_to_resource_conversion_rate)
    energy_converted = params.energy_to_resource_conversion_rate * energy_resources
    return State(
        **vars(economy),
        raw_material_production=material,
        extracted_matter=extracted,
        recycled_socioeconomic_stock=recycled,
        discarded_socioeconomic_stock=discarded,
        socioeconomic_stock=prior.socioeconomic_stock + material - discarded,
        energy_required_for_production=energy,
        renewable_energy=renewable,
        non_renewable_energy=non_renewable,
        co2_intensity_non_renewable_energy=co2_intensity,
        cumulative_co2=cumulative_co2,
        waste=discarded - recycled,
        temperature=temperature,
        initial_temperature=prior.initial_temperature,
        matter_reserves=prior.matter_reserves + matter_converted - extracted,
        conversion_matter_to_reserves=matter_converted,
        matter_resources=matter_resources,
        energy_reserves=prior.energy_reserves + energy_converted - non_renewable,
        conversion_energy_to_reserves=energy_converted,
        energy_resources=energy_resources,
        durable_goods_stock=durable_goods,
        total_emissions=emissions,
        carbon_mass_of_energy=carbon,
        mass_of_oxygen=emissions - carbon,
        c02_intensity_non_renewable_energy=co2_intensity,
        emissions=emissions,
    )


def at_temperature(prior: State, params: Params, sharpness: float | None) -> iopc.Params:
    """The parameters of model IOPC that households act on after what interest and warming left.

    Of income they spend no less than nothing (12.A).
    """
    planned = (
        params.propensity_to_consume_income_base
        - params.propensity_to_consume_income_interest * prior.interest_rate
        - params.propensity_to_consume_income_temperature
        * (prior.temperature - prior.initial_temperature)
    )
    propensity = (
        jnp.maximum(planned, 0) if sharpness is None else smooth.maximum(planned, 0.0, sharpness)
    )
    shared = {key: getattr(params, key) for key in iopc.Params.fields}
    shared["propensity_to_consume_income_base"] = propensity
    shared["propensity_to_consume_income_interest"] = 0.0
    return iopc.Params(**shared)


ECO3IOPC = Model(
    "ECO3IOPC",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    shocks=tuple(f"{key}_add" for key in Params.fields),
    solved=("prices",),
)
