r"""Model LINEAR2D: a linear system of two variables.

The state follows $x_t = A x_{t-1}$ from $x_0$ on, so that $x_t = A^t x_0$ and every derivative of
the path is known in closed form. It stands for no economy: it is the ruler that derivatives are
checked against.
"""

from __future__ import annotations

import jax.numpy as jnp

from .._model import Model
from .._record import Axis, Record, Scalar, Vector, index, param

S = "Linear2D"
COMPONENTS = Axis("component", ("1", "2"))


class Params(Record):
    a11: Scalar = param(0.9, symbol="a_{11}", bounds=(-10, 10), unit=".", name="a11")
    a12: Scalar = param(0.1, symbol="a_{12}", bounds=(-10, 10), unit=".", name="a12")
    a21: Scalar = param(-0.2, symbol="a_{21}", bounds=(-10, 10), unit=".", name="a21")
    a22: Scalar = param(0.8, symbol="a_{22}", bounds=(-10, 10), unit=".", name="a22")
    x0_1: Scalar = param(1.0, symbol="x_{0,1}", bounds=(-10, 10), unit=".", name="x0_1")
    x0_2: Scalar = param(0.0, symbol="x_{0,2}", bounds=(-10, 10), unit=".", name="x0_2")


class Scenario(Record):
    pass


class State(Record):
    state: Vector = index(
        "x",
        r"\begin{pmatrix} a_{11} & a_{12} \\ a_{21} & a_{22} \end{pmatrix} x_{-1}",
        sector=S,
        unit=".",
        shape=COMPONENTS,
    )


def initial_state(params: Params, scenario: Scenario) -> State:
    """x_0, which is two parameters."""
    return State(state=jnp.array([params.x0_1, params.x0_2]))


def step(prior: State, params: Params, scenario: Scenario) -> State:
    """x = A x_{-1}."""
    transition = jnp.array([[params.a11, params.a12], [params.a21, params.a22]])
    return State(state=transition @ prior.state)


def steady_state(params: Params, scenario: Scenario) -> State:
    """The origin: the only fixed point unless A has the eigenvalue 1."""
    return State(state=jnp.zeros_like(jnp.array([params.x0_1, params.x0_2])))


LINEAR2D = Model("LINEAR2D", Params, Scenario, State, initial_state, step, steady_state, periods=5)
