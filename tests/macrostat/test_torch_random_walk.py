"""RandomWalk in the torch API."""

import pytest
import torch

from macrostat.core import BoundaryError
from macrostat.models import get_model
from macrostat_jax.stochastic import GumbelSoftmax


@pytest.mark.parametrize("theta", [0.0, 1.0, -0.5, 1.5])
def test_theta_lies_strictly_between_0_and_1(theta: float):
    with pytest.raises(BoundaryError, match="Theta has invalid value"):
        get_model("RandomWalk")(parameters={"Theta": theta})


def test_a_seed_is_a_walk_and_a_relaxation_a_hyperparameter():
    def walk(**hyper):
        model = get_model("RandomWalk")(hyperparameters={"timesteps": 30, **hyper})
        return model.simulate()["Position"].flatten()

    path = walk(seed=1)
    assert torch.equal(path, walk(seed=1)) and not torch.equal(path, walk(seed=2))
    assert torch.all(path.diff()[1:].abs() == 1)
    assert torch.equal(path, walk(seed=1, relaxation=GumbelSoftmax(0.5)))
    soft = walk(seed=1, relaxation=GumbelSoftmax(0.5, hard=False))
    assert torch.all(soft.diff()[1:].abs() < 1)
