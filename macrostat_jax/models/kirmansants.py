r"""Model KirmansAnts: which of two sources of food the ants use, as a stochastic differential equation.

Kirman (1993), *Ants, Rationality, and Recruitment*, The Quarterly Journal of Economics 108(1), 137-156;
in the limit of many ants, Moran, Fosset, Benzaquen and Bouchaud (2020), *Schrödinger's ants: a
continuous description of Kirman's recruitment model*, Journal of Physics: Complexity 1, 035002. Ants
change the source of their own accord, at the rate rho, and follow others that they meet, at the rate mu.
The fraction x of ants at the first source moves by

    dx = rho (1 - 2 x) dt + sqrt(2 mu x (1 - x)) dW.

In the long run x follows the law Beta(rho / mu, rho / mu), with its mass near 0 and 1 where the ants
follow more than they choose (rho < mu), and x(t) and x(t + tau) correlate by exp(-2 rho tau).

The Lamperti coordinate phi = arcsin(2 x - 1) moves by phi' dx + phi'' (dx)^2 / 2, with
phi' = (x (1 - x))^(-1/2) and phi'' = (2 x - 1) (x (1 - x))^(-3/2) / 2:

    dphi = -(2 rho - mu) tan(phi) dt + sqrt(2 mu) dW,

whose noise does not depend on where it is. A period is one unit of time and takes as many
Euler-Maruyama steps EM of phi as it has draws (the axis `substep`), reflected at -pi/2 and pi/2, where x
is 0 and 1. In the drift, and at the end of a period, x is held within [1e-7, 1 - 1e-7].

In the long run the law of these steps is off by O(dt) for rho > mu, by about O(sqrt(dt)) for rho = mu
(the distribution function by 0.007 at 100 sub-steps a period, by 0.003 at 1,000), and exact at any dt for
rho = mu / 2, the default, where phi is a reflected Brownian motion. For rho < mu / 2 the boundary draws
phi without limit: at rho = 0.3 mu the distribution function is off by 0.08 at 100 sub-steps and still by
0.03 at 10,000, and small differences of paths grow without limit.

Reflections and these limits are kinks of the path: derivatives along a path hold between them.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32

from .._model import Model
from .._record import Axis, Record, Scalar, Vector, index, noise, param

ANTS = "Ants"
SUBSTEP = Axis("substep", size=10_000)

MARGIN = 1e-7
"""How far x stays away from 0 and 1."""
EDGE = math.asin(1 - 2 * MARGIN)
"""phi where x is 1 - MARGIN."""


class Params(Record):
    switching_rate: Scalar = param(
        0.5, symbol=r"\rho", bounds=(1e-6, 100), unit="1 / time", name="rho"
    )
    herding_rate: Scalar = param(1.0, symbol=r"\mu", bounds=(1e-6, 100), unit="1 / time", name="mu")


class Scenario(Record):
    pass


def standard_normal(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Standard normal, of 23 random bits, at half the price of `jax.random.normal` in single precision
    and a quarter of that in double, which would take two thirds of a run.

    Symmetric, within 5.3 standard deviations, its variance right to a millionth: less than what the
    size of the step does to the law.
    """
    words = jax.random.bits(key, (2,), jnp.uint32)
    bits = threefry_2x32(words, jnp.arange(math.prod(shape), dtype=jnp.uint32)).reshape(shape)
    odd = (2 * (bits >> 9) + 1).astype(jnp.int32).astype(jnp.float32)  # 1, 3, ..., 2^24 - 1
    return (math.sqrt(2) * jax.lax.erf_inv(odd * 2.0**-23 - 1)).astype(dtype)


class Noise(Record):
    increment: Vector = noise(standard_normal, symbol=r"\xi", shape=SUBSTEP)


class State(Record):
    density: Scalar = index(
        "x",
        r"\operatorname{EM}(x_{-1}; \rho, \mu, \xi)",
        sector=ANTS,
        unit="fraction",
        name="density",
    )


def initial_state(params: Params, scenario: Scenario, *, x0: float = 0.5) -> State:
    """The fraction x0."""
    if not 0 < x0 < 1:
        raise ValueError(f"x0 must be strictly in (0, 1); got {x0!r}.")
    return State(density=jnp.asarray(x0))


def step(prior: State, params: Params, scenario: Scenario, noise: Noise) -> State:
    """One unit of time."""
    return State(density=_density(_substeps(prior.density, params, noise)[0]))


def _substeps(density: Scalar, params: Params, noise: Noise, keep: bool = False) -> tuple[Any, Any]:
    """phi after a unit of time and, if they are to be kept, the fractions x after each sub-step."""
    count = noise.increment.shape[0]
    pull = (2 * params.switching_rate - params.herding_rate) / count
    spread = jnp.sqrt(2 * params.herding_rate / count)

    def substep(angle: Scalar, increment: Scalar) -> tuple[Scalar, Any]:
        drift = -pull * _tangent(jnp.clip(angle, -EDGE, EDGE))
        angle = _reflected(angle + drift + spread * increment)
        return angle, _density(angle) if keep else None

    start = jnp.arcsin(2 * jnp.clip(density, MARGIN, 1 - MARGIN) - 1)
    return jax.lax.scan(substep, start, noise.increment)


def _density(angle: Scalar) -> Scalar:
    return (1 + jnp.sin(jnp.clip(angle, -EDGE, EDGE))) / 2


def _reflected(angle: Scalar) -> Scalar:
    """The angle, reflected at -pi/2 and pi/2 until it lies between them."""
    turns = jnp.round(angle * (1 / math.pi))
    rest = angle - math.pi * turns
    return jnp.where(turns / 2 == jnp.round(turns / 2), rest, -rest)


def _tangent(angle: Scalar) -> Scalar:
    """tan on [-EDGE, EDGE] to rounding, by sums and products alone, which are done for many runs at once;
    `jnp.tan` calls the C library run by run.

    At half the angle, Lambert's continued fraction y / (1 - y^2 / (3 - y^2 / (5 - ...))), cut after
    nine terms, is right to 1e-18.
    """
    half = angle / 2
    square = half * half
    sine = half * _polynomial(SINE, square)
    cosine = _polynomial(COSINE, square)
    return 2 * sine * cosine / ((cosine - sine) * (cosine + sine))


SINE = (34459425.0, -4729725.0, 135135.0, -990.0, 1.0)
COSINE = (34459425.0, -16216200.0, 945945.0, -13860.0, 45.0)
"""The fraction's numerator (over y) and denominator, by powers of y^2."""


def _polynomial(coefficients: tuple[float, ...], at: Scalar) -> Scalar:
    total = jnp.full_like(at, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * at + coefficient
    return total


KirmansAnts = Model(
    "KirmansAnts",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    Noise=Noise,
    shocks=("rho_add", "mu_add"),
    scenarios={
        "Uniform (rho=1.0)": {"rho_add": 0.5},
        "Unimodal (rho=2.0)": {"rho_add": 1.5},
    },
    periods=1000,
)


# The path between the periods -------------------------------------------------------------------


class Recorded(State):
    micro: Vector = index(
        "x",
        r"\operatorname{EM}(x_{-1}; \rho, \mu, \xi)",
        sector=ANTS,
        unit="fraction",
        shape=SUBSTEP,
    )


def _recorded_step(prior: Recorded, params: Params, scenario: Scenario, noise: Noise) -> Recorded:
    angle, path = _substeps(prior.density, params, noise, keep=True)
    return Recorded(density=_density(angle), micro=path)


def _recorded_start(params: Params, scenario: Scenario, *, x0: float = 0.5) -> Recorded:
    density = initial_state(params, scenario, x0=x0).density
    return Recorded(density=density, micro=density)


@functools.lru_cache(maxsize=256)
def recorded(model: Model[Any, Any, Any] = KirmansAnts) -> Model[Any, Any, Any]:
    """The model, in the size and with the options of `model`, with one variable more: `micro`, of the
    axis `substep`, the fractions after each sub-step of a period.

        path = simulate(recorded(), key=jax.random.key(0), periods=10)
        micro_trajectory(path)

    From the same key it has the same path.
    """
    assert model.Noise is not None
    size = model.Noise.fields["increment"].axes[0].size
    found = Model(
        model.name,
        model.Params,
        model.Scenario,
        Recorded.resized({SUBSTEP.name: size}),
        _recorded_start,
        _recorded_step,
        Noise=model.Noise,
        scenarios=model.scenarios,
        periods=model.periods,
    )
    return found.configure(**model.options)


def micro_trajectory(path: Recorded) -> jax.Array:
    """The fraction after every sub-step, in one row: of `simulate(recorded(model), ...)`.

    Returns:
        Shape (T * substeps,), or (T * substeps, B) for a batch; element (t + 1) * substeps - 1 is row t of
        `path.density`.
    """
    micro = jnp.moveaxis(path.micro, -1, 1)  # the batch after the sub-steps
    return micro.reshape(-1, *micro.shape[2:])
