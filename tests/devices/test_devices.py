"""The setting `device`: names, what is not there, and too little memory."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
import torch

from recomind.config import RecomindConfig
from recomind.device_settings import MatmulPrecision
from recomind.devices import (
    CPU,
    find_device,
    on_device,
    products_in,
    require_precision,
    to_device,
    within_memory,
)
from recomind.errors import ConfigError, RecomindError
from recomind.ranker import new_ranker
from recomind.ranker.run_batch import run_batch
from recomind.training.config import TrainingConfig
from tests.simulation.tiny import NUM_ITEMS, RANKER, tiny_dataset

WITHOUT_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="needs torch without a GPU")


def configured(device):
    return RecomindConfig(
        device=device, world={"_target_": "simulators.video_feed.world.VideoFeed"}
    )


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "", "cuda:-1", "cpu:0"])
@pytest.mark.parametrize("make", [find_device, configured])
def test_another_word_is_refused(name, make):
    with pytest.raises(ConfigError, match=r"^device; got: .*expected: auto, cpu, cuda or cuda:N"):
        make(name)


def test_the_learners_have_an_override_of_their_own():
    assert TrainingConfig(device="cuda:1", num_learners=1).learner_device == torch.device("cuda:1")
    with pytest.raises(ConfigError, match=r"^training\.device; got: gpu"):
        TrainingConfig(device="gpu")


@WITHOUT_CUDA
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_a_device_that_is_not_there_is_told_with_those_that_are(name):
    expected = rf"^device={name} is not there; got: cpu alone: torch .*; to mend: set device=cpu or"
    with pytest.raises(ConfigError, match=expected):
        find_device(name)


def test_an_index_beyond_the_last_device_is_told_with_those_that_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    assert find_device("auto") == find_device("cuda") == torch.device("cuda:0")
    assert find_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match=r"got: cuda:0 \(card 0\), cuda:1 \(card 1\); to mend"):
        find_device("cuda:2")


@WITHOUT_CUDA
def test_auto_takes_the_processor_where_there_is_nothing_else():
    assert find_device("auto") == find_device("cpu") == CPU


@pytest.mark.parametrize("precision", [MatmulPrecision.tf32, MatmulPrecision.bf16])
def test_rounded_products_are_for_cuda(precision):
    require_precision(precision, torch.device("cuda:0"))
    require_precision(MatmulPrecision.full, CPU)
    with pytest.raises(ConfigError, match=rf"^ranker\.precision={precision.value} needs a CUDA"):
        require_precision(precision, CPU)


@pytest.mark.parametrize(
    ("precision", "meanwhile"), [(MatmulPrecision.full, "highest"), (MatmulPrecision.tf32, "high")]
)
def test_products_are_rounded_meanwhile_only(precision, meanwhile):
    assert torch.get_float32_matmul_precision() == "highest"
    with products_in(precision):
        assert torch.get_float32_matmul_precision() == meanwhile
    assert torch.get_float32_matmul_precision() == "highest"


def test_what_is_there_is_not_copied():
    tensor = torch.ones(3)
    assert to_device(tensor, CPU) is tensor


def filled_above(most, tried):
    """Work that needs more than the memory above `most`."""

    def attempt(size):
        tried.append(size)
        if size > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore.")
        return size

    return attempt


@pytest.mark.parametrize(
    ("most", "mend", "tries"),
    [
        (200, "set ranker.batch_size=128", [512, 256, 128]),
        (1, "set ranker.batch_size=1", [512, 256, 128, 64, 32, 16, 8, 4, 2, 1]),
        (0, "not even one fits", [512, 256, 128, 64, 32, 16, 8, 4, 2, 1]),
    ],
)
def test_too_little_memory_is_told_with_the_size_that_fits(most, mend, tries):
    tried = []
    attempt = filled_above(most, tried)
    with pytest.raises(RecomindError, match=r"got: ranker\.batch_size=512: CUDA out") as caught:
        within_memory(attempt, 512, "an update", "ranker.batch_size", probe=attempt)
    assert mend in str(caught.value)
    assert "More." not in str(caught.value)
    assert tried == tries


def test_what_fits_is_done_once():
    tried = []
    attempt = filled_above(512, tried)
    assert within_memory(attempt, 512, "an update", "ranker.batch_size", probe=attempt) == 512
    assert tried == [512]


@pytest.mark.parametrize("most", [NUM_ITEMS, 0], ids=["a table", "a cache"])
def test_a_rankers_items_move_with_it(most):
    config = replace(RANKER, max_table_items=most)
    ranker = new_ranker(tiny_dataset(), config, 0).precompute_items()
    table, cache = ranker.table, ranker.item_cache
    assert ranker.to(CPU).table is table
    ranker.to("meta")
    assert (ranker.table is None) == (table is None)
    if ranker.table is not None:
        assert {part.device.type for part in vars_of(ranker.table)} == {"meta"}
    if ranker.item_cache is not None:
        assert ranker.item_cache is not cache
        assert {weight.device.type for weight in ranker.item_cache.weights} == {"meta"}


def vars_of(batch):
    return [getattr(batch, field.name) for field in dataclasses.fields(batch)]


def test_batches_move_with_all_that_lies_within():
    dataset = tiny_dataset()
    rows = dataset.rows("train")[:20]
    batch = run_batch(dataset, rows, 8, dataset.catalogue)
    assert on_device(batch, CPU) is batch
    moved = on_device(batch, torch.device("meta"))
    parts = [moved.labels, moved.runs.age_KE, moved.items.inverse, moved.items.content.dense]
    assert {part.device.type for part in parts} == {"meta"}
    assert moved.runs.num_runs == batch.runs.num_runs
    state = dataset.state(rows)
    assert on_device(state, CPU) is state
    elsewhere = on_device(state, torch.device("meta"))
    assert {part.device.type for part in vars_of(elsewhere)} == {"meta"}
    assert elsewhere.batch_size == state.batch_size
