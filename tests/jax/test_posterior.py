"""Posteriors against closed forms, ArviZ and simulation-based calibration."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from macrostat_jax import Model, Record, Scalar, exogenous, index, models, param, simulate
from macrostat_jax.estimation import (
    Coverage,
    Normal,
    Posterior,
    Problem,
    fit,
    multi_start,
    sample_posterior,
    simulation_based_calibration,
    variational,
)
from macrostat_jax.estimation._laplace import laplace

pytest.importorskip("blackjax")
pytest.importorskip("optax")

# A regression: its posterior is normal, in closed form ------------------------------------------------


class Params(Record):
    level: Scalar = param(0.0)
    slope: Scalar = param(1.0)


class Scenario(Record):
    z: Scalar = exogenous(0.0)


class State(Record):
    y: Scalar = index("y")


LINE = Model(
    "LINE", Params, Scenario, State, lambda p, s: State.filled(0.0),
    lambda prior, p, s: State(y=p.level + p.slope * s.z), periods=25,
)  # fmt: skip
Z = np.linspace(0.0, 3.0, 25)
SIGMA = 0.4
Y = 0.7 + 1.3 * Z + SIGMA * np.random.default_rng(5).normal(size=25)
PRIORS = {"level": Normal(0.0, 1.0), "slope": Normal(1.0, 0.5)}
X = np.stack([np.ones(25), Z], axis=1)
PRECISION = X.T @ X / SIGMA**2 + np.diag([1.0, 4.0])
COVARIANCE = np.linalg.inv(PRECISION)
MEAN = COVARIANCE @ (X.T @ Y / SIGMA**2 + np.array([0.0, 4.0]))


@functools.cache
def line() -> Problem:
    scenario = LINE.scenario(z=Z)
    return Problem(
        LINE, {"y": Y}, ["y"], ["level", "slope"], scenario=scenario, sigma=SIGMA, priors=PRIORS
    )


@functools.cache
def drawn(method: str = "nuts") -> Posterior:
    return sample_posterior(line(), method=method, chains=4, draws=1000, warmup=300, seed=1)


def check_closed_form(found: Posterior) -> None:
    np.testing.assert_array_less(np.abs(found.mean - MEAN), 4 * found.mean_error)
    # A variance of n effective draws of a normal number has the relative standard error sqrt(2 / n); of a
    # covariance it is at most that of the variances.
    size = np.sqrt(np.outer(np.diag(COVARIANCE), np.diag(COVARIANCE)))
    limit = 4 * np.sqrt(2 / found.ess_tail.min()) * size
    np.testing.assert_array_less(np.abs(found.covariance - COVARIANCE), limit)


def test_chains_against_the_closed_form():
    found = drawn()
    assert found.values.shape == (4, 1000, 2) and len(found) == 4000
    assert (found.ess > 1500).all() and (found.rhat < 1.01).all()
    check_closed_form(found)
    expected = stats.norm(MEAN[1], np.sqrt(COVARIANCE[1, 1]))
    thinned = found["slope"][:, ::5].ravel()
    assert stats.kstest(thinned, expected.cdf).pvalue > 0.001
    assert found.complaints == () and "Nothing speaks against them" in str(found)
    np.testing.assert_array_equal(found.values, found.u)  # without bounds, in units of 1
    assert found.finite.all() and not found.divergent.any()
    density = jax.vmap(line().log_density)(found.flat_u)
    np.testing.assert_allclose(found.log_density.ravel(), density, rtol=1e-12)


@pytest.mark.parametrize(
    "method", ["mala", *(pytest.param(m, marks=pytest.mark.slow) for m in ("hmc", "random_walk"))]
)
def test_other_samplers(method):
    found = drawn(method)
    assert (found.ess > 200).all()
    check_closed_form(found)


def test_seeds():
    again = sample_posterior(line(), chains=4, draws=1000, warmup=300, seed=1)
    np.testing.assert_array_equal(again.values, drawn().values)
    other = sample_posterior(line(), chains=4, draws=1000, warmup=300, seed=2)
    assert not np.isin(other.values, drawn().values).any()


@pytest.mark.parametrize("family", ["fullrank", "laplace"])
def test_a_normal_posterior_is_met_exactly(family):
    found = variational(line(), family=family, draws=2000, steps=300)
    assert found.normal is not None
    np.testing.assert_allclose(found.normal[0], MEAN, atol=1e-6)
    np.testing.assert_allclose(found.normal[1], COVARIANCE, rtol=1e-6)
    # Draws are independent: standard errors as of a sample.
    error = np.sqrt(np.diag(COVARIANCE) / 2000)
    np.testing.assert_array_less(np.abs(found.mean - MEAN), 4 * error)
    assert found.complaints == ()
    assert found.effective_share == pytest.approx(1.0, abs=1e-9)


def test_independent_parameters_cannot_meet_it():
    """The nearest normal density with independent parameters has the precision's diagonal, and says so."""
    found = variational(line(), family="meanfield", draws=2000, steps=500)
    assert found.normal is not None and found.elbo is not None
    # A stochastic fit: the mean is off by a share of its width that its rate leaves.
    widths = 1 / np.sqrt(np.diag(PRECISION))
    np.testing.assert_array_less(np.abs(found.normal[0] - MEAN), 0.1 * widths)
    np.testing.assert_allclose(np.sqrt(np.diag(found.normal[1])), widths, rtol=0.1)
    assert found.normal[1][0, 1] == 0
    assert "no substitute for the posterior" in found.complaints[0]


def test_start_from_a_fit_or_many_starts():
    found = variational(line(), family="laplace", draws=2000, start=MEAN)
    assert found.normal is not None
    np.testing.assert_allclose(found.normal[0], MEAN, atol=1e-6)
    for start in (fit(line()), multi_start(line(), np.ones((1, 2)))):
        found = laplace(line(), start)
        np.testing.assert_allclose(found.mode, MEAN, atol=1e-6)


# Diagnosis and tables ---------------------------------------------------------------------------------


def test_diagnosis_against_arviz():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arviz = pytest.importorskip("arviz")
    found = drawn("mala")
    data = found.to_arviz()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = arviz.summary(data, round_to=8)
    np.testing.assert_allclose(table["r_hat"], found.rhat, rtol=1e-3)
    np.testing.assert_allclose(table["ess_bulk"], found.ess, rtol=0.02)
    np.testing.assert_allclose(table["ess_tail"], found.ess_tail, rtol=0.02)
    np.testing.assert_allclose(table["mean"], found.mean, rtol=1e-6)
    np.testing.assert_allclose(table["mcse_mean"], found.mean_error, rtol=0.02)
    assert data["sample_stats"]["diverging"].dims == ("chain", "draw")
    np.testing.assert_array_equal(data["posterior"]["slope"], found["slope"])


def test_tables():
    found = drawn()
    table = found.to_pandas()
    assert table.shape == (4000, 2) and table.index.names == ["chain", "draw"]
    assert table.loc[(2, 7), "slope"] == found["slope"][2, 7]
    assert list(found.table().index) == ["level", "slope"]
    np.testing.assert_allclose(found.table()["50%"], np.median(found.flat, axis=0))
    with pytest.raises(KeyError, match="'rate' is not one of level, slope"):
        found["rate"]
    for figure in (found.plot(), found.plot_pairs(), found.plot(["slope"])):
        figure.canvas.draw()


def test_a_few_draws_can_be_printed():
    few = dataclasses.replace(drawn(), **{
        name: getattr(drawn(), name)[:1, :3]
        for name in ("u", "values", "log_density", "divergent", "acceptance", "steps", "finite")
    })  # fmt: skip
    assert "has 0 effective draws" in str(few)


def test_what_speaks_against_draws():
    """Chains that disagree, diverge and reach paths that are not finite: each is said."""
    good = drawn()
    values, flags = good.values.copy(), np.zeros((4, 1000), bool)
    values[0, :, 1] += 1.0
    flags[1, :3] = True
    bad = dataclasses.replace(good, values=values, divergent=flags, finite=~flags)
    said = " ".join(bad.complaints)
    assert "R-hat is" in said and "for slope" in said
    assert "3 of 4,000 trajectories diverged" in said
    assert "3 of 4,000 draws have a path that is not finite" in said
    assert "effective draws" in said and said in bad.sentence()
    assert len(bad) == 4000  # all are kept


@pytest.mark.parametrize("chains", [1, 4])
def test_chains_that_never_move_are_not_fine(chains):
    """R-hat and the effective draws of constants are 0 / 0, which is no reason to be silent."""
    good = drawn()
    still = dataclasses.replace(good, **{
        name: np.broadcast_to(getattr(good, name)[:chains, :1], (chains, *getattr(good, name).shape[1:]))
        for name in ("u", "values")
    })  # fmt: skip
    assert f"{chains} of {chains} chains never moved" in still.sentence()
    assert "Nothing speaks against" not in still.sentence()


# A model within bounds --------------------------------------------------------------------------------


class Seen(Record):
    seen: Scalar = param(0.3, bounds=(0, 1))
    unseen: Scalar = param(0.5, bounds=(0, 2))
    pushed: Scalar = param(0.5, bounds=(0, 1))


PARTLY = Model(
    "PARTLY", Seen, Scenario, State, lambda p, s: State.filled(0.0),
    lambda prior, p, s: State(y=p.seen + 0.0 * p.unseen + 0.0 * p.pushed), periods=25,
)  # fmt: skip


def test_what_the_data_do_not_tell_is_said_and_drawn_as_in_its_prior():
    """The one is uniform for want of a prior, the other has a normal one that its bounds cut off.

    A test of draws against their prior errs once in a hundred, more often where draws depend on each
    other: of three samplings one must be right.
    """
    problem = Problem(
        PARTLY, {"y": 0.3 + 0.1 * np.random.default_rng(2).normal(size=25)}, ["y"],
        ["seen", "unseen", "pushed"], sigma=0.1, priors={"pushed": Normal(0.8, 0.5)},
    )  # fmt: skip
    for seed in range(3):
        found = sample_posterior(problem, chains=2, draws=1000, warmup=200, seed=seed)
        assert "seen" not in found.uninformed
        if found.uninformed == ("unseen", "pushed"):
            break
    assert found.uninformed == ("unseen", "pushed")
    assert "The draws of unseen, pushed are as its prior has it" in found.sentence()
    cut = stats.truncnorm(-0.8 / 0.5, 0.2 / 0.5, 0.8, 0.5)
    prior, bounds = found.prior("pushed") or (Normal(0, 1), (0, 0))
    at = np.linspace(0.01, 0.99, 7)
    np.testing.assert_allclose(prior.share(at, bounds), cut.cdf(at), rtol=1e-9)
    lines = [axis.lines for axis in found.plot().axes[::2]]
    drawn_priors = [line for row in lines for line in row if line.get_label() == "prior"]
    densities: list[Any] = [stats.uniform(0, 1), stats.uniform(0, 2), cut]
    for line, density in zip(drawn_priors, densities, strict=True):
        x, y = (np.asarray(side) for side in line.get_data())
        np.testing.assert_allclose(y, density.pdf(x), rtol=1e-6)


def test_draws_of_sim_stay_within_bounds_and_hold_the_truth():
    sim = models.GL06SIM
    path = simulate(sim, periods=40)
    income = np.asarray(path.national_income) + np.random.default_rng(0).normal(size=40)
    problem = Problem(
        sim, {"national_income": income}, ["national_income"], {"tax_rate": (0.1, 0.5)}, sigma=1.0
    )
    found = sample_posterior(problem, chains=2, draws=400, warmup=200)
    assert found.rhat.shape == found.ess.shape == (1,)
    assert found.values.min() > 0.1 and found.values.max() < 0.5
    # One parameter: its posterior by quadrature, on a fine grid of values between the bounds.
    grid = np.linspace(0.18, 0.22, 4001)
    u = problem.unconstrain(grid[:, None])
    density = np.asarray(jax.vmap(problem.log_likelihood)(u))
    weight = np.exp(density - density.max())
    weight /= weight.sum()
    mean = weight @ grid
    sd = np.sqrt(weight @ (grid - mean) ** 2)
    assert abs(found.mean[0] - mean) < 4 * found.mean_error[0]
    assert found.sd[0] == pytest.approx(sd, rel=4 / np.sqrt(2 * found.ess_tail[0]))


# Calibration ------------------------------------------------------------------------------------------


def linear2d(**more: Any) -> Problem:
    path = np.asarray(simulate(models.LINEAR2D, periods=8).state)
    data = {"state[0]": path[:, 0], "state[1]": path[:, 1]}
    priors = {"a11": Normal(0.7, 0.2), "a21": Normal(-0.2, 0.2), "x0_1": Normal(1.0, 0.3)}
    given: dict[str, Any] = {"sigma": 0.1, "priors": priors} | more
    return Problem(models.LINEAR2D, data, list(data), list(priors), **given)


def check_coverage(found: Coverage) -> None:
    count = len(found.ranks)
    assert found.p_values.min() > 0.001
    for level in (0.5, 0.9):
        error = np.sqrt(level * (1 - level) / count)
        np.testing.assert_array_less(np.abs(found.held(level) - level), 4 * error)


def test_posteriors_of_linear2d_are_calibrated():
    found = simulation_based_calibration(linear2d(), replicates=100, draws=49, thin=3, warmup=100)
    assert found.ranks.shape == (100, 3) and found.ranks.max() <= 49
    check_coverage(found)
    # The truths are draws from the priors.
    for column, name in zip(found.truths.T, found.names, strict=True):
        prior = linear2d().priors[name]
        assert stats.kstest(column, stats.norm(prior.mean, prior.sd).cdf).pvalue > 0.001
    assert "are uniform" in str(found)
    found.plot().canvas.draw()


@pytest.mark.slow
def test_posteriors_of_linear2d_are_calibrated_at_length():
    found = simulation_based_calibration(linear2d(), replicates=1000, draws=99, thin=5, warmup=300)
    assert found.bins == 20
    check_coverage(found)


def test_posteriors_that_are_too_narrow_are_found_out():
    """Draws with half the width they should have: the truth is often among the extremes."""
    rng = np.random.default_rng(0)
    truth, draws = rng.normal(size=(200, 1, 3)), 0.5 * rng.normal(size=(200, 99, 3))
    ranks = (draws < truth).sum(axis=1)
    found = Coverage(linear2d(), 99, truth[:, 0], ranks, np.zeros(200, int))
    assert found.p_values.max() < 1e-6
    assert "not uniform" in found.sentence()
    assert (found.held(0.9) < 0.75).all()


@pytest.mark.parametrize("draws", [96, 100, 49])
def test_any_number_of_draws_can_be_tested(draws):
    """97 and 101 ranks have no divisor: bins of unequal size, with what is expected in each."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(500, 1, 3))
    for spread, fine in ((1.0, True), (0.7, False)):
        ranks = (spread * rng.normal(size=(500, draws, 3)) < truth).sum(axis=1)
        found = Coverage(linear2d(), draws, truth[:, 0], ranks, np.zeros(500, int))
        assert found.bins == 20 and found.counts.sum(axis=0).tolist() == [500] * 3
        assert found.shares.sum() == pytest.approx(1)
        assert (found.p_values > 0.001).all() == fine
        assert ("not uniform" not in found.sentence()) == fine
        found.plot().canvas.draw()


def test_truths_without_a_finite_path_are_counted_and_left_out():
    """A logarithm of the level: a seventh of the prior's draws are negative, and make no data."""
    model = Model(
        "LOG", Params, Scenario, State, lambda p, s: State.filled(0.0),
        lambda prior, p, s: State(y=jnp.log(p.level)), periods=5,
    )  # fmt: skip
    problem = Problem(
        model, {"y": np.zeros(5)}, free=["level"], sigma=0.5, priors={"level": Normal(1.0, 1.0)},
        start={"level": 1.0},
    )  # fmt: skip
    found = simulation_based_calibration(problem, replicates=60, draws=19, thin=1, warmup=30)
    count = len(found.failed)
    assert 0 < count < 25 and len(found.ranks) + count == len(found.truths) + count == 60
    assert (found.truths > 0).all() and (np.asarray(found.failed) <= 0).all()
    assert f"{count} more truths lead to no finite path" in found.sentence()


# Bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "gibbs"}, "Unknown method: 'gibbs'. Use one of nuts, hmc"),
        ({"chains": 0}, "chains must be a whole number"),
        ({"draws": 1.5}, "draws must be a whole number"),
        ({"acceptance": 1.0}, "acceptance is a share between 0 and 1"),
        ({"start": np.zeros(3)}, "2 finite coordinates"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(ValueError, match=said):
        sample_posterior(line(), **options)


def test_bad_options_of_fits_and_calibration():
    with pytest.raises(ValueError, match="Unknown family: 'flow'"):
        variational(line(), family="flow")
    with pytest.raises(ValueError, match="rate must be a finite number above 0"):
        variational(line(), rate=-1.0)
    with pytest.raises(ValueError, match=r"give sigma for state\[0\]"):
        simulation_based_calibration(linear2d(sigma=None))
    unbounded = Problem(LINE, {"y": Y}, ["y"], ["level"], scenario=LINE.scenario(z=Z), sigma=1.0)
    with pytest.raises(ValueError, match="'level' has no prior, and no finite bounds"):
        simulation_based_calibration(unbounded)


def test_a_missing_library_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "blackjax", None)
    with pytest.raises(ImportError, match=r"macrostat-jax\[calibration\]"):
        sample_posterior(line())
