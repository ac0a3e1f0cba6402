"""Hyperparameters that mean nothing are refused where they are given."""

import pytest
import torch

from macrostat.models import get_model

PC = get_model("GL06PC")


@pytest.mark.parametrize("name", ["timesteps", "timesteps_initialization", "scenario_trigger"])
@pytest.mark.parametrize("value", [-1, 2.5, "many", True])
def test_numbers_of_periods(name, value):
    with pytest.raises(ValueError, match=f"'{name}' must be an integer"):
        PC(hyperparameters={name: value})
    model = PC()
    with pytest.raises(ValueError, match=f"'{name}' must be an integer"):
        model.parameters[name] = value


def test_a_device_that_torch_does_not_know():
    with pytest.raises(ValueError, match="torch knows no device 'gpu'"):
        PC(hyperparameters={"device": "gpu"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_where_there_is_none():
    with pytest.raises(RuntimeError, match=r"'cuda' is not available.*jax\[cuda13\]"):
        PC(hyperparameters={"device": "cuda"})
