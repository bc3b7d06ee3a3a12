"""The loop around the algorithm: reports, checkpoints, kills, and what it refuses."""

import logging
import math
import os
import socket

import pytest
import torch

from recomind.errors import ConfigError, RecomindError
from recomind.training.cluster import running_ray
from recomind.training.target import trainable
from recomind.training.trainer import train_policy
from tests.training.runs import same
from tests.training.tiny import PROBLEM, TinyNetwork, settings


def train(folder, seed=0, on_iteration=lambda report: None, tensorboard_dir=None, **changes):
    network = train_policy(
        PROBLEM,
        settings(**changes),
        seed=seed,
        checkpoint_dir=folder,
        on_iteration=on_iteration,
        tensorboard_dir=tensorboard_dir,
    )
    return {name: value.detach().clone() for name, value in trainable(network).items()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_no_steps_give_the_network_as_it_was(tmp_path):
    calls = []
    got = train(tmp_path, on_iteration=calls.append, num_env_steps=0)
    assert same(got, dict(trainable(TinyNetwork())))
    assert calls == []
    assert names(tmp_path) == []


@pytest.mark.usefixtures("ray_cluster")
def test_reports_checkpoints_and_scalars(tmp_path):
    reports = []
    final = train(
        tmp_path / "run",
        on_iteration=reports.append,
        tensorboard_dir=tmp_path / "tb",
        learning_starts=700,
    )
    assert [report["iteration"] for report in reports] == [1, 2, 3]
    assert math.isnan(reports[0]["loss"])  # nothing learnt yet
    assert reports[-1]["env_steps"] >= 1500
    assert reports[-1]["updates"] == (reports[-1]["env_steps"] - 700) // 50
    assert 0.0 < reports[-1]["loss"] < 2.0
    assert 0.5 < reports[-1]["simulated_return"] < 8.0
    assert reports[-1]["epsilon"] == pytest.approx(0.1)
    assert reports[-1]["seconds_left"] == 0.0 < reports[0]["seconds_left"]
    assert same(dict(trainable(reports[-1]["network"])), final)
    assert names(tmp_path / "run") == ["iteration-00000002", "iteration-00000003"]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    assert len(events.Scalars("training/simulated_return")) == 3
    assert [event.step for event in events.Scalars("training/loss")] == [
        report["env_steps"] for report in reports[1:]
    ]


class KilledError(Exception):
    """Stands for a kill between two iterations."""


@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path):
    whole = train(tmp_path / "whole", checkpoint_every=2, num_env_steps=2000)

    def kill(report):
        if report["iteration"] == 3:
            raise KilledError

    with pytest.raises(KilledError):
        train(tmp_path / "cut", on_iteration=kill, checkpoint_every=2, num_env_steps=2000)
    assert names(tmp_path / "cut") == ["iteration-00000002"]
    seen = []
    again = train(
        tmp_path / "cut", on_iteration=seen.append, checkpoint_every=2, num_env_steps=2000
    )
    assert [report["iteration"] for report in seen] == [3, 4]
    assert same(again, whole)

    done = train(tmp_path / "cut", on_iteration=seen.append, num_env_steps=2000)
    assert len(seen) == 2  # nothing was left to do
    assert same(done, whole)


@pytest.mark.usefixtures("ray_cluster")
def test_checkpoints_of_other_settings_are_refused(tmp_path):
    train(tmp_path, num_env_steps=500)
    with pytest.raises(ConfigError, match=r"other settings.*got: {'gamma': 0.5}.*'gamma': 0.9"):
        train(tmp_path, num_env_steps=500, gamma=0.5)
    with pytest.raises(ConfigError, match=r"other settings.*got: {'seed': 1}"):
        train(tmp_path, num_env_steps=500, seed=1)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("counts", [{"num_runners": 4}, {"num_runners": 3, "num_learners": 1}])
def test_more_processes_than_cpus_are_refused_at_once(tmp_path, counts):
    with pytest.raises(ConfigError, match=r"num_runners.*got: 4; expected: <= 3"):
        train(tmp_path, **counts)


@pytest.mark.usefixtures("ray_cluster")
def test_a_process_that_is_connected_does_not_train_in_another_cluster_than_was_asked():
    import ray

    here = ray.get_runtime_context().gcs_address
    with running_ray(settings(ray_address=here)):
        assert ray.is_initialized()
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        message = f"a cluster other than.*got: {address}; expected: {here}"
        with pytest.raises(ConfigError, match=message), running_ray(settings(ray_address=address)):
            pass


@pytest.mark.usefixtures("ray_cluster")
def test_a_running_ray_and_the_threads_are_left_as_they_were(tmp_path):
    import ray

    torch.set_num_threads(2)
    try:
        train(tmp_path, num_env_steps=100)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert ray.is_initialized()


@pytest.mark.usefixtures("ray_cluster")
def test_says_nothing_below_an_error(tmp_path, capfd, caplog):
    with caplog.at_level(logging.DEBUG, "recomind"):
        train(tmp_path, num_env_steps=100)
    output = capfd.readouterr()
    assert output.out + output.err == ""


_PROGRAM = """
import sys, ray
from pathlib import Path
from recomind.training.target import trainable
from recomind.training.trainer import train_policy
from tests.training.tiny import PROBLEM, settings
ran = []
for name, num_runners in (("alone", 0), ("two", 1)):
    network = train_policy(
        PROBLEM, settings(num_env_steps=500, num_runners=num_runners), seed=0,
        checkpoint_dir=Path(sys.argv[1]) / name,
        on_iteration=lambda report: ran.append(ray.is_initialized()),
    )
    if not num_runners:
        print(sum(tensor.double().sum().item() for tensor in trainable(network).values()))
print(ran, ray.is_initialized())
"""


@pytest.mark.own_ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_starts_and_stops_a_ray_of_its_own_where_it_needs_one(tmp_path):
    """In a process of its own: the other tests share one Ray."""
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"RAY_ENABLE_AUTO_CONNECT": "0"},  # else RLlib may start one unasked
    )
    assert done.stderr == ""
    weights, ran = done.stdout.splitlines()
    assert ran == "[False, True] False"
    beside = train(tmp_path / "beside", num_env_steps=500)  # a Ray changes no bit
    assert float(weights) == sum(tensor.double().sum().item() for tensor in beside.values())


def test_own_ray_refuses_too_many_processes_before_it_starts(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match="got: 5000"), running_ray(settings_of(5000)):
        pass


def settings_of(num_runners):
    return settings(num_runners=num_runners, replay_capacity=10**9)


def test_too_little_memory_on_the_device_says_how_to_find_what_fits(tmp_path, monkeypatch):
    def filled(*given, **settings):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore.")

    monkeypatch.setattr("recomind.training.dqn.module.td_loss", filled)
    size = settings().batch_size
    expected = (
        rf"got: training\.batch_size={size}: CUDA out .*; to mend: halve it .*={size // 2} on"
    )
    with pytest.raises(RecomindError, match=expected) as caught:
        train(tmp_path)
    assert "More." not in str(caught.value)
