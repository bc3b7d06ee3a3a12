"""What fake tensors cannot show: numbers on a GPU, and that the host waits for none of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from recomind.device_settings import MatmulPrecision
from recomind.devices import CPU, find_device, on_device
from recomind.policy import PolicyConfig, QNetwork
from recomind.ranker import fit_ranker, log_loss, new_ranker, predict
from recomind.ranker.averaging import WeightAverage
from recomind.ranker.loss import ImpressionLoss
from recomind.ranker.run_batch import run_batch
from recomind.ranker.training import make_optimizers, training_rows
from recomind.ranker.updates import DeviceUpdates
from tests.simulation.tiny import NUM_ITEMS, RANKER, WEIGHTS, tiny_dataset

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
EXACT = replace(RANKER, dropout=0.0, id_dropout=0.3)  # hidden ids are drawn on the processor
WAITS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "aten::item",
    "aten::_local_scalar_dense",
)


def device():
    return find_device("auto")


def fitted(where, **changes):
    dataset, config = tiny_dataset(), replace(EXACT, **changes)
    return fit_ranker(new_ranker(dataset, config, 0), dataset, num_epochs=2, seed=0, device=where)


def test_a_gpu_learns_what_the_processor_learns():
    """Sums in another order: weights within .01, the log-loss of later days within .001."""
    dataset, theirs = tiny_dataset(), fitted(CPU)
    ours = fitted(device())
    for name, value in ours.state_dict().items():
        assert value.device == CPU
        assert torch.allclose(value, theirs.state_dict()[name], atol=1e-2), name
    losses = [log_loss(*predict(r, dataset, dataset.rows("test"))) for r in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


@pytest.mark.parametrize("precision", [MatmulPrecision.tf32, MatmulPrecision.bf16])
def test_rounded_products_learn_nearly_the_same(precision):
    dataset = tiny_dataset()
    rankers = (fitted(device(), precision=precision), fitted(CPU))
    losses = [log_loss(*predict(ranker, dataset, dataset.rows("test"))) for ranker in rankers]
    assert losses[0] == pytest.approx(losses[1], abs=1e-2)


@pytest.mark.parametrize("changes", [{"run_length": 1}, {"session_batches": True}])
def test_other_batches_train_too(changes):
    assert fitted(device(), **changes).head.weight.isfinite().all()


def test_an_update_of_the_ranker_waits_for_nothing():
    dataset = tiny_dataset()
    ranker = new_ranker(dataset, RANKER, 0).to(device())
    optimizers = make_optimizers(ranker, RANKER)
    dense = [p for group in optimizers[0].param_groups for p in group["params"]]
    average = WeightAverage(dense, 0.1)
    updates = DeviceUpdates(ImpressionLoss(ranker), optimizers, dense, average, max_norm=1.0)
    rows = training_rows(dataset)[:64]
    batch = run_batch(dataset, rows, RANKER.run_length, dataset.catalogue)
    for _ in range(3):
        updates.queue(dataset, rows, batch)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        for _ in range(5):
            updates.queue(dataset, rows, batch)
    seen = {event.key: event.count for event in profiled.key_averages()}
    assert {name: seen[name] for name in WAITS if name in seen} == {}
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        updates.read()
    assert "aten::_local_scalar_dense" in {event.key for event in profiled.key_averages()}


def test_values_of_a_policy_are_those_of_the_processor():
    dataset = tiny_dataset()
    ranker = new_ranker(dataset, RANKER, 0).precompute_items()
    network = QNetwork(ranker, WEIGHTS, PolicyConfig())
    state = dataset.state(dataset.rows("test")[:16])
    item_id = torch.arange(NUM_ITEMS)[None, :50].expand(16, -1)
    expected = network.q_values(state, item_id)
    network.to(device())
    found = network.q_values(on_device(state, device()), item_id.to(device()))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours.cpu(), theirs, atol=1e-5)
