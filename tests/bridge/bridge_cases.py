"""One table of functions, in JAX and in torch: torch's derivatives are the second opinion."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import torch

from bridge import torch_function


class Case(NamedTuple):
    name: str
    wrapped: Callable
    twin: Callable
    shapes: tuple[tuple[int, ...], ...]

    def arguments(self, dtype=torch.float64, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return tuple(
            torch.rand(s, generator=generator, dtype=torch.float64).to(dtype) + 0.1
            for s in self.shapes
        )


def _sine(x, w):
    return jnp.sum(jnp.sin(x * w))


def _layer(weights, x):
    return jnp.tanh(weights @ x)


def _path(start, coefficients):
    def step(state, _):
        state = coefficients[0] * state + coefficients[1] * jnp.tanh(state)
        return state, state

    return jax.lax.scan(step, start, None, length=6)[1]


def _torch_path(start, coefficients):
    states, state = [], start
    for _ in range(6):
        state = coefficients[0] * state + coefficients[1] * torch.tanh(state)
        states.append(state)
    return torch.stack(states)


CASES = (
    Case("sine", torch_function(_sine), lambda x, w: torch.sin(x * w).sum(), ((4,), (4,))),
    Case(
        "layer", torch_function(_layer), lambda weights, x: torch.tanh(weights @ x), ((3, 2), (2,))
    ),
    Case("path", torch_function(_path), _torch_path, ((2,), (2,))),
)
