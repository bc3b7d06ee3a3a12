"""The RLlib algorithm itself: it learns, repeats itself, resumes, and says what went wrong."""

import dataclasses
from typing import Any

import pytest
import torch

from recomind.errors import ConfigError, RecomindError
from recomind.policy import support_mask
from recomind.training.checkpoint import load_checkpoint, save_checkpoint
from recomind.training.dqn.algorithm import SessionDQNConfig
from recomind.training.target import TargetCopy, load_trainable, trainable
from tests.training.runs import built, interrupted, same, trained, weights
from tests.training.tiny import PROBLEM, NanNetworkRecipe, TinyNetwork, settings

pytestmark = pytest.mark.usefixtures("ray_cluster")


def build(seed: int = 0, problem=PROBLEM, **changes):  # a SessionDQN
    config = SessionDQNConfig().session(problem=problem, settings=settings(**changes), seed=seed)
    return built(config)


def test_same_seed_same_weights_other_seed_others():
    first = trained(build, 2, seed=20_261_121)
    assert same(first, trained(build, 2, seed=20_261_121))
    assert not same(first, trained(build, 2, seed=4))
    assert not same(first, dict(trainable(TinyNetwork())))


def test_finds_the_policy_that_keeps_users():
    """The ranker shows item 0; item 1 is right, and within the support."""
    with build(num_env_steps=12_000, steps_per_iteration=6_000, learning_rate=3e-3) as algorithm:
        runner = algorithm.runner
        state = runner.environment.reset(64, torch.Generator().manual_seed(0))
        pool = runner._source.candidates(state, runner.environment.streams)
        before = algorithm.trained_network().q_values(state, pool.item_id)[0]
        assert bool((before.argmax(1) == 0).all())
        for _ in range(2):
            algorithm.train()
        q, utility = algorithm.trained_network().q_values(state, pool.item_id)
        allowed = support_mask(utility, pool.mask, 0.5)
        assert bool((q.masked_fill(~allowed, -torch.inf).argmax(1) == 1).all())


def test_only_what_learns_is_trained_copied_and_sent():
    with build() as algorithm:
        algorithm.train()
        learner = algorithm.learner
        module = learner.session_module
        names = {"hidden.weight", "hidden.bias", "residual.weight", "residual.bias"}
        assert set(module.get_state()["network"]) == names
        assert set(module.get_state(inference_only=True)) == {"network"}
        assert set(module.target.tensors) == names
        (optimizer,) = learner._named_optimizers.values()
        assert sum(len(g["params"]) for g in optimizer.param_groups) == len(names)
        assert torch.equal(module.network.ranker.weight, TinyNetwork().ranker.weight)
        assert algorithm.runner.network is module.network
        assert not any(part.training for part in module.modules())  # dropout would be noise


def test_exploration_ends_with_training():
    with build(epsilon_start=1.0, epsilon_end=0.0, num_env_steps=500) as algorithm:
        (first,) = algorithm._simulate()
        assert bool((first.columns["log_propensity"] < 0).all())
        algorithm.train()
        (last,) = algorithm._simulate()
        assert bool((last.columns["log_propensity"] == 0).all())


def test_target_is_copied_when_due():
    changes: dict[str, Any] = {"target_update_every": 4, "learning_starts": 0}
    with build(target_rate=0.0, env_steps_per_update=100, **changes) as algorithm:
        module = algorithm.learner.session_module
        seen = []
        update = algorithm.learner_group.update

        def spy(**kwargs):
            update(**kwargs)
            online = {k: v.detach() for k, v in trainable(module.network).items()}
            seen.append(same(online, module.target.tensors))

        algorithm.learner_group.update = spy
        algorithm.train()
        algorithm.train()
        assert len(seen) >= 9
        assert [i for i, equal in enumerate(seen, 1) if equal] == list(range(4, len(seen) + 1, 4))


def test_target_follows_as_an_exponential_average_and_is_the_policy():
    with build(target_rate=0.25, learning_starts=0, env_steps_per_update=100) as algorithm:
        module = algorithm.learner.session_module
        average = {k: v.detach().clone() for k, v in trainable(module.network).items()}
        update = algorithm.learner_group.update

        def spy(**kwargs):
            update(**kwargs)
            for name, value in trainable(module.network).items():
                average[name] = 0.75 * average[name] + 0.25 * value.detach()

        algorithm.learner_group.update = spy
        algorithm.train()
        assert algorithm.num_updates >= 4
        for name, value in average.items():
            torch.testing.assert_close(module.target.tensors[name], value)
        assert same(trainable(algorithm.trained_network()), module.target.tensors)
        assert not same(trainable(module.network), module.target.tensors)


def test_target_copy_values_as_the_earlier_network():
    network = TinyNetwork()
    with build() as algorithm:
        state = algorithm.runner.environment.reset(4, torch.Generator().manual_seed(0))
    items = torch.arange(5).expand(4, 5)
    earlier = TargetCopy(network)
    before = network.q_values(state, items)[0].detach()
    with torch.no_grad():
        network.residual.bias.add_(1.0)
    assert torch.equal(earlier.q_values(state, items)[0], before)
    assert not torch.equal(network.q_values(state, items)[0].detach(), before)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ConfigError, match=r"another network.*hidden\.bias"):
        load_trainable(TinyNetwork(), {"wrong": torch.zeros(1)})
    with pytest.raises(ConfigError, match="nothing to train"):
        trainable(TinyNetwork().requires_grad_(False))


@pytest.mark.parametrize("through", ["ours", "rllib"])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, through):
    assert same(interrupted(build, tmp_path, through), trained(build, 4))


def test_an_older_checkpoint_goes_into_a_live_algorithm(tmp_path):
    with build() as algorithm:
        algorithm.train()
        earlier, updates = weights(algorithm), algorithm.num_updates
        path = save_checkpoint(tmp_path, 1, algorithm.training_state(), {}, seed=0)
        algorithm.train()
        assert not same(weights(algorithm), earlier)
        algorithm.set_training_state(load_checkpoint(path)[1])
        assert same(weights(algorithm), earlier)
        assert algorithm.num_updates == algorithm.learner.num_updates == updates


def test_a_network_that_is_not_finite_simulates_nothing():
    problem = dataclasses.replace(PROBLEM, network=NanNetworkRecipe())
    message = "value of a candidate is not finite; got: nan at step 0 from its residual"
    with build(problem=problem) as algorithm, pytest.raises(RecomindError, match=message):
        algorithm.train()


def test_what_is_not_finite_stops_the_run_and_says_when():
    with build() as algorithm:  # a network of NaNs could not even act
        rows = [part for _ in range(5) for part in algorithm._simulate()]
    problem = dataclasses.replace(PROBLEM, network=NanNetworkRecipe())
    with build(problem=problem) as algorithm:
        algorithm._remember(rows)
        algorithm.num_env_steps = 1000
        with pytest.raises(RecomindError, match=r"loss is not finite; got: nan at update 1;"):
            algorithm._learn()


def test_a_gradient_that_is_not_finite_leaves_the_weights():
    with build() as algorithm:
        algorithm.train()
        learner, before = algorithm.learner, weights(algorithm)
        parameters = learner.get_parameters(learner.session_module)
        gradients = {}
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, torch.inf)
            gradients[parameter] = parameter.grad
        with pytest.raises(RecomindError, match="gradient is not finite"):
            learner.apply_gradients(gradients)
        assert same(weights(algorithm), before)


def test_counts_and_returns():
    with build() as algorithm:
        result = algorithm.train()
        report = algorithm.report
        assert report["env_steps"] == algorithm.num_env_steps >= 500
        assert report["updates"] == (algorithm.num_env_steps - 100) // 50
        assert 0.5 < report["simulated_return"] < 8.0
        assert result["env_runners"]["num_env_steps_sampled_lifetime"] == algorithm.num_env_steps
        assert result["learners"]["loss"] == pytest.approx(report["loss"])


def test_keeps_the_allowed_candidates_for_the_maximum():
    with build(target_subset_size=4, support_ratio=0.65) as algorithm:
        (rows,) = algorithm._simulate()
    items, mask = rows.columns["pool_item_id"], rows.columns["pool_mask"]
    assert items.shape[-1] == 4
    assert bool(mask.all())
    for allowed in (0, 1):  # utilities .9 and .7; all others are below .65 * .9
        assert bool((items == allowed).any(-1).all())


def test_without_a_problem():
    with pytest.raises(ConfigError, match="no problem"):
        SessionDQNConfig().build_algo()


def runner_weights(algorithm: Any) -> list[dict[str, torch.Tensor]]:
    return algorithm.runners.foreach_env_runner(
        lambda runner: {k: v.detach() for k, v in trainable(runner.network).items()},
        local_env_runner=False,
    )


def session_seeds(algorithm: Any) -> list[list[int]]:
    states = algorithm.on_runners("get_state")
    assert [state["weights_seq_no"] for state in states] == [algorithm.num_updates] * 2
    return [state["environment"]["seeds"].tolist() for state in states]


@pytest.mark.slow
def test_two_runners_that_also_resume_and_restart(tmp_path):
    import ray

    changes: dict[str, Any] = {"restart_runners": True, "target_rate": 0.0}
    with build(num_runners=2, num_env_steps=3000, **changes) as algorithm:
        assert algorithm.runner is None
        algorithm.train()
        path = save_checkpoint(tmp_path, 1, algorithm.training_state(), {}, seed=0)
        earlier, seeds = weights(algorithm), session_seeds(algorithm)
        assert not set(seeds[0]) & set(seeds[1])
        assert [len(replay) > 0 for replay in algorithm._memories] == [True, True]
        assert all(same(held, earlier) for held in runner_weights(algorithm))

        algorithm.train()
        assert all(same(held, weights(algorithm)) for held in runner_weights(algorithm))
        assert session_seeds(algorithm) != seeds
        algorithm.set_training_state(load_checkpoint(path)[1])
        assert session_seeds(algorithm) == seeds
        assert all(same(held, earlier) for held in runner_weights(algorithm))

        group = algorithm.runners
        for actor in group._worker_manager.actors().values():
            ray.kill(actor, no_restart=False)
        algorithm.train()  # with whoever is back first
        assert group.num_remote_worker_restarts() >= 1
        assert same(runner_weights(algorithm)[0], weights(algorithm))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Train's use of Ray Data
def test_two_learners_that_also_resume(tmp_path):
    """Each gets half of a batch; Adam's state must not be shared memory between them."""
    with build(num_learners=2) as algorithm:
        algorithm.train()
        path = save_checkpoint(tmp_path, 1, algorithm.training_state(), {}, seed=0)
        algorithm.train()
        once = weights(algorithm)
        algorithm.set_training_state(load_checkpoint(path)[1])
        algorithm.train()
        assert same(weights(algorithm), once)
        assert torch.allclose(once["residual.bias"], trained(build, 2)["residual.bias"], atol=1e-4)
