"""torch's engine on wrapped functions: its checks, graphs, integers, threads, in-place writes."""

import threading

import jax
import jax.numpy as jnp
import pytest
import torch
from bridge_cases import CASES
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, jacfwd, jacrev, jvp, vmap

from bridge import torch_function

sine = CASES[0].wrapped


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradcheck(case):
    args = tuple(x.requires_grad_() for x in case.arguments())
    assert gradcheck(case.wrapped, args, check_forward_ad=True)
    assert gradgradcheck(case.wrapped, args, check_fwd_over_rev=True)


def test_gradcheck_of_complex_numbers():
    f = torch_function(lambda z, x: (z * jnp.conj(z) * z + jax.lax.complex(x, x * x), jnp.abs(z)))
    z = torch.tensor([1 + 2j, 0.5 - 1j], dtype=torch.complex128, requires_grad=True)
    x = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    assert gradcheck(f, (z, x), check_forward_ad=True)
    assert gradgradcheck(f, (z, x))


def test_backward_accumulates():
    x = torch.rand(3, dtype=torch.float64, requires_grad=True)
    w = torch.rand(3, dtype=torch.float64)
    for _ in range(2):
        sine(x, w).backward()
    torch.testing.assert_close(x.grad, 2 * w * torch.cos(x.detach() * w))


def test_second_backward_needs_the_graph():
    x = torch.rand(3, dtype=torch.float64, requires_grad=True)
    y = sine(x, x)
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_no_grad_makes_no_graph():
    x = torch.rand(3, requires_grad=True)
    with torch.no_grad():
        assert sine(x, x).grad_fn is None
    assert sine(x, x).requires_grad
    assert not sine(x.detach(), x.detach()).requires_grad


def test_forward_ad_without_torch_func():
    x, w = torch.rand(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    with forward_ad.dual_level():
        out = sine(forward_ad.make_dual(x, torch.ones_like(x)), w)
        tangent = forward_ad.unpack_dual(out).tangent
    torch.testing.assert_close(tangent, (w * torch.cos(x * w)).sum())


def test_part_of_a_torch_graph():
    x = torch.rand(3, dtype=torch.float64, requires_grad=True)
    w = torch.rand(3, dtype=torch.float64)
    torch.exp(sine(torch.tanh(x), w)).backward()
    y = x.detach().clone().requires_grad_()
    torch.exp(torch.sin(torch.tanh(y) * w).sum()).backward()
    torch.testing.assert_close(x.grad, y.grad)


def _pick(x, index, unused):
    return {
        "values": x[index],
        "index": index + 1,
        "positive": x > 0,
        "constant": jnp.ones(2, x.dtype),
    }


pick = torch_function(_pick)


def test_integers_and_unused_inputs_have_no_gradient():
    x = torch.rand(4, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([2, 0, 2])
    unused = torch.rand(2, dtype=torch.float64, requires_grad=True)
    out = pick(x, index, unused)
    assert not out["index"].requires_grad and not out["positive"].requires_grad
    out["values"].sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1, 0, 2, 0]
    assert unused.grad is None or unused.grad.tolist() == [0, 0]


@pytest.mark.parametrize("transform", [jacrev, jacfwd])
def test_integer_results_under_transforms(transform):
    x, index, unused = (
        torch.rand(4, dtype=torch.float64),
        torch.tensor([2, 0]),
        torch.ones(2, dtype=torch.float64),
    )
    floats = lambda x: [pick(x, index, unused)[k] for k in ("values", "constant")]  # noqa: E731
    values, constant = transform(floats)(x)
    assert values.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert constant.equal(torch.zeros(2, 4, dtype=torch.float64))
    assert transform(lambda u: pick(x, index, u)["values"])(unused).equal(
        torch.zeros(2, 2, dtype=torch.float64)
    )


def test_integer_results_batched():
    x, unused = torch.rand(5, 4, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    index = torch.tensor([[2, 0]] * 5)
    out = vmap(pick, in_dims=(0, 0, None))(x, index, unused)
    assert (
        out["index"].equal(index + 1) and out["positive"].all() and out["constant"].shape == (5, 2)
    )
    gradients = vmap(grad(lambda x, i: pick(x, i, unused)["values"].sum()))(x, index)
    assert gradients.equal(torch.tensor([[1.0, 0, 1, 0]] * 5, dtype=torch.float64))
    tangent = jvp(lambda x: pick(x, index[0], unused)["values"], (x[0],), (x[0],))[1]
    assert tangent.equal(x[0][index[0]])


def test_function_of_integers_alone():
    assert torch_function(lambda n: n * n)(torch.arange(3)).tolist() == [0, 1, 4]


def test_backward_in_another_thread():
    x = torch.rand(3, dtype=torch.float64, requires_grad=True)
    w = torch.full((3,), 1 + 1e-12, dtype=torch.float64)
    y, errors = sine(x, w), []

    def work():
        try:
            y.backward()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors
    torch.testing.assert_close(x.grad, w * torch.cos(x.detach() * w), rtol=1e-14, atol=0)


def test_many_threads_at_once():
    f = torch_function(lambda x: jnp.sum(jnp.cumsum(x) * x))
    results = {}

    def work(k):
        x = torch.full((3,), float(k), dtype=torch.float64, requires_grad=True)
        for _ in range(10):
            results[k] = torch.autograd.grad(f(x), x)[0]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(8):
        # d/dx_i of sum_{j <= k} x_j x_k, at x = k everywhere, is (3 + 1) k.
        torch.testing.assert_close(results[k], torch.full((3,), 4.0 * k, dtype=torch.float64))


def test_float64_precision_while_jax_is_in_float32_mode():
    assert jnp.zeros(1).dtype == jnp.float32
    f = torch_function(lambda x: jnp.sum(x * x * x))
    x = torch.tensor([1 + 1e-13], dtype=torch.float64)
    assert f(x).dtype == torch.float64 and f(x).item() == pytest.approx(1 + 3e-13, rel=1e-15)
    assert grad(f)(x).item() == pytest.approx(3 + 6e-13, rel=1e-15)
    assert jacfwd(grad(f))(x).item() == pytest.approx(6 + 6e-13, rel=1e-15)
    assert jnp.ones(1).dtype == jnp.float32


def test_writing_into_a_saved_input_is_noticed():
    x = torch.rand(3, dtype=torch.float64, requires_grad=True)
    w = torch.rand(3, dtype=torch.float64)
    y = sine(x, w)
    w.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_result_is_complete_before_the_input_may_be_overwritten():
    # JAX computes in the background; this takes long enough to still be at it when the call would
    # have returned.
    f = torch_function(lambda x: jax.lax.fori_loop(0, 20, lambda _, y: jnp.sin(y) + x, x))
    x = torch.ones(100_000, dtype=torch.float64)
    expected = f(x.clone())
    result = f(x)
    x.fill_(100.0)
    assert result.equal(expected)


@pytest.mark.parametrize("compiled", [True, False])
def test_writing_into_a_result_changes_nothing_else(compiled):
    constant = jnp.arange(3.0, dtype=jnp.float32)
    f = torch_function(lambda x: (x, x, constant, constant, x + 1))
    x = torch.zeros(3)
    for _ in range(2):
        # Whether compiled code hands an input or a constant through is XLA's choice; without
        # compilation, JAX does.
        with jax.disable_jit(not compiled):
            results = f(x)
        for result in results:
            result.add_(7.0)
        assert [r.tolist() for r in results] == [
            [7, 7, 7],
            [7, 7, 7],
            [7, 8, 9],
            [7, 8, 9],
            [8, 8, 8],
        ]
        assert x.tolist() == [0, 0, 0] and constant.tolist() == [0, 1, 2]


def test_writing_into_a_gradient_leaves_the_cotangent():
    f = torch_function(lambda x: x)
    x = torch.zeros(3, requires_grad=True)
    cotangent = torch.ones(3)
    (gradient,) = torch.autograd.grad(f(x), x, cotangent)
    gradient.add_(1)
    assert cotangent.tolist() == [1, 1, 1]


def test_optimiser_fits():
    f = torch_function(lambda w, x: jnp.tanh(x @ w))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, generator=generator)
    truth = torch.tensor([0.5, -1.0, 0.25])
    target = f(truth, x)
    w = torch.nn.Parameter(torch.zeros(3))
    optimiser = torch.optim.Adam([w], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(f(w, x), target).backward()
        optimiser.step()
    torch.testing.assert_close(w.detach(), truth, atol=1e-3, rtol=0)


def test_what_nothing_depends_on_is_not_pulled_back():
    """The paths of all agents, say, where a loss is of aggregates."""

    @jax.custom_vjp
    def wide(x):
        return 2 * x

    def refuse(residuals, cotangent):
        raise AssertionError("pulled back")

    wide.defvjp(lambda x: (2 * x, None), refuse)
    function = torch_function(lambda x: (x.sum(), wide(x)))
    x = torch.arange(3.0, dtype=torch.float64, requires_grad=True)
    total, agents = function(x)
    total.backward(retain_graph=True)
    assert x.grad is not None and torch.equal(x.grad, torch.ones_like(x))
    assert torch.equal(
        torch.func.jacrev(lambda x: function(x)[0])(x.detach()), torch.ones(3).double()
    )
    with pytest.raises(AssertionError, match="pulled back"):
        agents.sum().backward()
