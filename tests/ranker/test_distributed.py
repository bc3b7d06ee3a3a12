"""Sharded training is the same training, whatever the number of processes."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from recomind.artifacts import Manifest, load_tensors
from recomind.data import write_sessions
from recomind.errors import ConfigError
from recomind.ranker import SessionRanker, new_ranker, predict
from recomind.ranker.distributed import train_sharded
from simulators.video_feed.world import TASKS
from tests.preloaded.launching import Started, start
from tests.ranker.sharded_process import CONFIG, NUM_EPOCHS, plain_ranker, ranker_weights
from tests.simulation.tiny import tiny_catalogue, tiny_dataset, tiny_frame


def processes(folder: Path, sessions: Path, num_processes: int) -> list[Started]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(num_processes),
        "LOCAL_WORLD_SIZE": str(num_processes),
        "OMP_NUM_THREADS": "1",
    }
    command = ["-m", "tests.ranker.sharded_process", str(folder), str(sessions)]
    return [
        start(command, environment=shared | {"RANK": str(rank)}) for rank in range(num_processes)
    ]


def run(sessions: Path, **folders: Path) -> None:
    """A training by one process in folder `one`, beside it a training by two in folder `two`."""
    started = [
        process
        for name, num_processes in (("one", 1), ("two", 2))
        for process in processes(folders[name], sessions, num_processes)
    ]
    try:
        ended = [process.ended(timeout_s=120) for process in started]
    finally:
        for process in started:
            process.kill()
    for process in ended:
        assert process.returncode == 0, (process.stdout + process.stderr)[-3000:]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Trainings by one and by two processes, then by the other number from the middle of each."""
    root = tmp_path_factory.mktemp("sharded")
    manifest, sessions = Manifest(kind="sessions"), root / "sessions"
    write_sessions(sessions, tiny_frame(), tiny_catalogue(), tasks=TASKS, manifest=manifest)
    for name in ("one", "two", "two_one", "one_two"):
        (root / name).mkdir()
    run(sessions, one=root / "one", two=root / "two")
    for before, after in (("two", "two_one"), ("one", "one_two")):
        shutil.copy(root / before / "middle.safetensors", root / after / "start.safetensors")
    run(sessions, one=root / "two_one", two=root / "one_two")
    return root


def losses(folder: Path) -> list[float]:
    return json.loads((folder / "losses.json").read_text())


def weights(folder: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    return load_tensors(folder / f"weights_{rank}.safetensors")


def learned(folder: Path) -> dict[str, torch.Tensor]:
    """Weights whose gradient is more than rounding.

    The bias of attention's keys has none: a softmax does not see it, and Adam makes steps of what
    rounding leaves. The calibration is fitted afterwards, by an iteration that stops early.
    """
    noise = ("query_key_value.bias", "calibration.slope", "calibration.offset")
    return {n: t for n, t in weights(folder).items() if not n.endswith(noise)}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[n].float() - other[n].float()).abs().max()) for n in one)


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one(trained):
    one, two = losses(trained / "one"), losses(trained / "two")
    assert len(one) == 9 * NUM_EPOCHS
    assert two == pytest.approx(one, abs=1e-5)
    assert sum(two[-9:]) < sum(two[:9]) - 0.5
    assert largest_difference(learned(trained / "one"), learned(trained / "two")) < 1e-5


@pytest.mark.slow
def test_what_the_optimizers_hold_does_not_depend_on_the_number_of_processes(trained):
    """Adagrad's steps are the same for any scale of gradients; its sums tell what that was."""
    one, two = (load_tensors(trained / name / "middle.safetensors") for name in ("one", "two"))
    sums = [name for name in one if name.startswith("adagrad.")]
    assert len(sums) == 3
    for name in sums:
        assert float(one[name].max()) > 1e-9
        assert torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-12)
    squares = [name for name in one if name.endswith(".exp_avg_sq")]
    assert all(torch.allclose(one[n], two[n], rtol=1e-3, atol=1e-9) for n in squares)


@pytest.mark.slow
def test_every_process_ends_with_the_same_ranker_and_no_checkpoint(trained):
    assert largest_difference(weights(trained / "two", 0), weights(trained / "two", 1)) == 0.0
    assert not (trained / "two" / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_the_tables_learn(trained):
    before, after = plain_ranker(tiny_dataset()).state_dict(), weights(trained / "two")
    for name in (n for n in before if ".embedding_bags." in n):
        assert float((before[name] - after[name]).abs().max()) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("two", "two_one"), ("one", "one_two")])
def test_another_number_of_processes_goes_on_as_if_there_had_been_no_stop(trained, before, after):
    assert losses(trained / after) == pytest.approx(losses(trained / before)[-9:], abs=1e-5)
    assert largest_difference(learned(trained / before), learned(trained / after)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("after", ["two_one", "one_two"])
def test_a_checkpoint_scores_the_same_sharded_and_plain(trained, after):
    dataset = tiny_dataset()
    ranker = plain_ranker(dataset)
    ranker.load_state_dict(ranker_weights(trained / after / "start.safetensors"))
    plain = predict(ranker, dataset, dataset.rows("test")[:50])[0]
    sharded = load_tensors(trained / after / "scores.safetensors")["scores"]
    assert torch.allclose(plain, sharded, rtol=1e-6, atol=1e-6)
    assert float(plain.std(0).max()) > 0.1


@pytest.fixture
def group():
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def train(**changes) -> SessionRanker:
    sharding = changes.pop("sharding", None)
    dataset = tiny_dataset()
    ranker = new_ranker(dataset, replace(CONFIG, **changes), 0)
    return train_sharded(ranker, dataset, num_epochs=1, seed=0, sharding=sharding)


def test_without_processes_there_is_nothing_to_shard_among():
    with pytest.raises(ConfigError, match=r"process group on CPUs; expected: gloo"):
        train()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"next_action_weight": 0.1}, "Next Action Loss is not sharded"),
        ({"sharding": {"table_feature_9": "row_wise"}}, "did you mean 'table_feature_"),
        ({"sharding": {"table_feature_0": "rowwise"}}, "did you mean 'row_wise'"),
    ],
)
def test_settings_that_cannot_be_are_told(group, changes, message):
    with pytest.raises(ConfigError, match=message):
        train(**changes)
