import jax
import pytest
import torch


def _gpu_in_both() -> bool:
    if not torch.cuda.is_available():
        return False
    try:
        return bool(jax.devices("gpu"))
    except RuntimeError:
        return False


@pytest.fixture(autouse=True)
def strict(request):
    """JAX may neither promote dtypes nor broadcast ranks for us."""
    if request.node.get_closest_marker("gpu") and not _gpu_in_both():
        pytest.skip("no GPU that both torch and JAX see")
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
