"""Strategies for long runs: the same numbers from all, memory within its limit, and reasons given."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import count_compilations, simulate
from macrostat_jax.diff import Strategy, choose_strategy, final, gradient, jacobian
from macrostat_jax.models import GL06INSOUT, GL06PC

LONG = 3_000


def mean_square(path):
    return (path.national_income**2).mean()


def of_last(state):
    return state.national_income**2 + state.wealth


def everything(state):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(state))


def test_all_strategies_give_the_same_numbers():
    exact = gradient(GL06PC, mean_square, periods=50)
    ways = ["auto", "forward", "reverse", "sqrt", "recursive", Strategy("forward", chunk=4)]
    ways += [Strategy("reverse", checkpoint=levels) for levels in (2, 5)]
    for way in ways:
        found = gradient(GL06PC, mean_square, strategy=way, periods=50)
        for name, value in exact.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-11)
    J = jacobian(GL06PC, ("wealth", "taxes"), periods=10)
    ways_of_j: list[dict[str, Any]] = [
        {"chunk": 4},
        {"mode": "reverse", "chunk": 7},
        {"strategy": "recursive"},
        {"strategy": "auto"},
    ]
    for given in ways_of_j:
        other = jacobian(GL06PC, ("wealth", "taxes"), periods=10, **given)
        assert list(other.values) == ["wealth", "taxes"]
        np.testing.assert_allclose(other.matrix(), J.matrix(), rtol=1e-11, atol=1e-11)
    why = jacobian(GL06PC, ("wealth", "taxes"), periods=10, strategy="auto").strategy
    assert why.mode == "forward" and "forward: with 6 inputs" in str(why)


@pytest.mark.parametrize("checkpoint", [False, True, 3])
@pytest.mark.parametrize("periods", [1, 50])
def test_a_loss_of_the_final_state_is_one_of_the_path(checkpoint, periods):
    def last(path):
        return of_last(path[-1])

    given: dict[str, Any] = dict(periods=periods, checkpoint=checkpoint)
    by_state = gradient(GL06PC, final(of_last), **given)
    by_path = gradient(GL06PC, last, **given)
    for name, value in by_path.items():
        np.testing.assert_allclose(by_state[name], value, rtol=1e-12, atol=1e-14)
    path = simulate(GL06PC, periods=periods)
    assert float(final(of_last)(path)) == pytest.approx(float(last(path)), rel=1e-15)


def test_final_losses_are_one_object_per_function():
    gradient(GL06PC, final(of_last), periods=50)
    with count_compilations() as compilations:
        gradient(GL06PC, final(of_last), periods=50)
    assert compilations.count == 0


def test_auto_says_what_it_picked_and_why():
    loss = choose_strategy(GL06PC, mean_square, wrt=("params", "scenario"), periods=100)
    assert (loss.mode, loss.checkpoint, loss.chunk) == ("reverse", 1, None)
    assert str(loss) == (
        "reverse: with 306 inputs, 1 output and 100 periods it takes some 1.6 simulations, forward "
        "mode some 25.7."
    )
    path = choose_strategy(GL06PC, wrt="tax_rate", periods=100)
    assert path.mode == "forward" and "1 input, 1,400 outputs" in path.why
    assert choose_strategy(GL06PC, mean_square, strategy="recursive", periods=10**5).checkpoint == 4
    assert "4 levels" in str(
        choose_strategy(GL06PC, mean_square, strategy="recursive", periods=10**5)
    )


def measured(of, limit, **given):
    chosen = choose_strategy(GL06PC, of, memory=limit, **given)
    assert chosen.memory is not None and chosen.memory <= limit
    return chosen


def test_memory_limits_are_kept():
    given: dict[str, Any] = dict(wrt=("params", "initial"), periods=LONG)
    free = measured(final(of_last), 1e9, **given)
    assert free.checkpoint == 1 and free.mode == "reverse"
    # 6 variables are read of each period before: 3,000 x 6 x 8 bytes are 144 kB.
    assert free.memory is not None and free.memory > 40_000
    tight = measured(final(of_last), free.memory // 2, **given)
    assert tight.work > free.work
    assert re.search(r"bytes|kB of the .* allowed; cheaper ones need more", tight.why)
    with pytest.raises(
        ValueError, match=r"GL06PC: no strategy for d of_last takes 10 bytes or less.*The least is"
    ) as refused:
        choose_strategy(GL06PC, final(of_last), memory=10, **given)
    # What would do, does.
    said = re.search(r"The least is ([\d.]+) (kB|bytes)", str(refused.value))
    assert said
    least = float(said[1]) * {"kB": 1e3, "bytes": 1}[said[2]]
    found = measured(final(of_last), 1.01 * least + 8, **given)
    exact = gradient(GL06PC, final(of_last), **given)
    by_least = gradient(GL06PC, final(of_last), strategy=found, **given)
    for name, value in exact.items():
        np.testing.assert_allclose(by_least[name], value, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_a_long_run_of_the_largest_model_takes_ten_megabytes():
    chosen = choose_strategy(GL06INSOUT, final(everything), memory=10e6, periods=100_000)
    assert chosen.mode == "reverse" and chosen.checkpoint == 2 and (chosen.memory or 1e9) <= 10e6
    plain = choose_strategy(
        GL06INSOUT, final(everything), strategy="reverse", memory=1e9, periods=100_000
    )
    assert (plain.memory or 0) > 20e6


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: choose_strategy(GL06PC, strategy="fast"),
            ValueError,
            "auto, forward, reverse, sqrt",
        ),
        (
            lambda: jacobian(GL06PC, strategy="auto", mode="forward"),
            ValueError,
            "decides on mode, checkpoint and chunk",
        ),
        (
            lambda: gradient(GL06PC, mean_square, strategy=Strategy("forward"), memory=1e6),
            ValueError,
            "Give the memory to choose_strategy",
        ),
        (lambda: jacobian(GL06PC, chunk=0), ValueError, "at least one product, not 0"),
        (
            lambda: gradient(GL06PC, lambda path: path.wealth, strategy="auto"),
            TypeError,
            "one real number",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
