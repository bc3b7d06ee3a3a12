"""Code on a device that is not the processor, with fake tensors: shapes and devices, no numbers.

Usage: python -m tests.devices.spare. Prints a JSON object: the name of each check, and what went
wrong in it. A process of its own, since a backend is registered for the whole of one, and before
the first backward pass. A CUDA device itself cannot be faked where torch is built without CUDA: its
autograd asks for the device's streams.

Fake tensors raise where devices mix, and where a value has to be waited for.
"""

from __future__ import annotations

import dataclasses
import json
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensorDeviceMismatchError,
    FakeTensorMode,
)
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from recomind.candidates import best_slot
from recomind.devices import HasBatchSize, on_device
from recomind.policy import PolicyConfig, QNetwork, support_mask
from recomind.ranker import SessionRanker, new_ranker
from recomind.ranker.averaging import WeightAverage
from recomind.ranker.loss import ImpressionLoss
from recomind.ranker.run_batch import run_batch
from recomind.ranker.runs import order_by_runs
from recomind.ranker.training import make_optimizers
from recomind.ranker.updates import DeviceUpdates
from recomind.streams import make_generator
from recomind.training.dqn.loss import td_loss
from recomind.training.target import TargetCopy, trainable
from recomind.types import Candidates, Transition
from tests.simulation.tiny import NUM_ITEMS, RANKER, WEIGHTS, tiny_dataset

SPARE = "spare:0"
CHECKS: dict[str, Callable[[], None]] = {}


def check(made: Callable[[], None]) -> Callable[[], None]:
    """Register a check."""
    CHECKS[made.__name__] = made
    return made


def moved(module: Any, mode: FakeTensorMode) -> Any:
    """The module with fake tensors on the spare device; `Module.to` cannot swap fake ones."""

    def fake(tensor: Tensor) -> Tensor:
        return mode.from_tensor(tensor).detach().to(SPARE)

    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                learns = parameter.requires_grad
                part._parameters[name] = nn.Parameter(fake(parameter), requires_grad=learns)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = fake(buffer)
        if getattr(part, "table", None) is not None:
            part.table = part.table.mapped(fake)
    return module


def faked(part: Any, mode: FakeTensorMode) -> Any:
    """A batch with fake tensors, where it is: a real one cannot be copied to the spare device."""
    if isinstance(part, Tensor):
        return mode.from_tensor(part)
    if not dataclasses.is_dataclass(part):
        return part
    fields = {f.name: faked(getattr(part, f.name), mode) for f in dataclasses.fields(part)}
    size = {"batch_size": part.batch_size} if isinstance(part, HasBatchSize) else {}
    made: Any = type(part)
    return made(**fields, **size)


def new(**changes: Any) -> SessionRanker:
    """A new ranker, on the processor."""
    config = replace(RANKER, **({"average_rate": 0.1} | changes))
    return new_ranker(tiny_dataset(), config, 0)


def updates_of(ranker: SessionRanker, mode: FakeTensorMode) -> DeviceUpdates:
    """What updates the ranker, which is moved."""
    ranker, config = moved(ranker, mode), ranker.config
    optimizers = make_optimizers(ranker, config)
    dense = [p for group in optimizers[0].param_groups for p in group["params"]]
    average = WeightAverage(dense, config.average_rate)
    return DeviceUpdates(ImpressionLoss(ranker), optimizers, dense, average, max_norm=1.0)


def batch_of(num: int = 64) -> tuple[Tensor, Any]:
    """Rows and what is read of them, gathered on the processor as training does."""
    dataset = tiny_dataset()
    rows = order_by_runs(dataset, dataset.rows("train"), RANKER.run_length, make_generator(1))[:num]
    return rows, run_batch(dataset, rows, RANKER.run_length, dataset.catalogue)


def fakes() -> FakeTensorMode:
    """Fake tensors, and none beside them."""
    return FakeTensorMode()


@check
def ranker_trains_and_waits_for_nothing() -> None:
    rows, batch = batch_of()
    rankers = [new(), new(recent_length=5, num_nearest=4)]
    with fakes() as mode:
        for ranker in rankers:
            updates = updates_of(ranker, mode)
            for _ in range(2):  # the second one with moments
                updates.queue(tiny_dataset(), rows, faked(batch, mode))
            grads = {n: p.grad for n, p in ranker.named_parameters() if p.grad is not None}
            assert len(grads) > 20
            assert {str(g.device) for g in grads.values()} == {SPARE}


@check
def reading_a_loss_is_seen_as_waiting() -> None:
    ranker = new()
    with fakes() as mode:
        updates = updates_of(ranker, mode)
        try:
            updates.read()
        except DataDependentOutputException:
            return
        raise AssertionError("a reading passed unseen")


@check
def a_part_left_on_the_processor_is_seen() -> None:
    rows, batch = batch_of()
    ranker = new()
    with fakes() as mode:
        updates = updates_of(ranker, mode)
        ranker.calibration.slope = torch.ones(len(ranker.tasks))
        try:
            updates.queue(tiny_dataset(), rows, faked(batch, mode))
        except FakeTensorDeviceMismatchError:
            return
        raise AssertionError("two devices mixed unseen")


def transition(num: int = 16) -> Transition:
    """Logged events as the learner gets them, with random pools."""
    dataset, generator = tiny_dataset(), make_generator(2)
    rows = dataset.rows("train")[:num]
    item_id = torch.randint(NUM_ITEMS, (num, 8), generator=generator)
    pool = Candidates(
        item_id=item_id,
        mask=torch.ones_like(item_id, dtype=torch.bool),
        log_propensity=torch.zeros(num, 8),
        batch_size=[num],
    )
    return Transition(
        state=dataset.state(rows),
        item_id=dataset.item_id(rows),
        log_propensity=torch.zeros(num),
        reward=torch.ones(num),
        discount=torch.full((num,), 0.9),
        next_state=dataset.next_state(rows),
        next_candidates=pool,
        batch_size=[num],
    )


@check
def policy_learns_and_waits_for_nothing() -> None:
    effects = torch.zeros(NUM_ITEMS, 2)
    config = PolicyConfig(support_density=0.0)
    network = QNetwork(new().precompute_items(), WEIGHTS, config, effects_NE=effects)
    batch = transition()
    with fakes() as mode:
        moved(network, mode)
        target, learning = TargetCopy(network), list(trainable(network).values())
        optimizer = torch.optim.Adam(learning)
        on_spare = on_device(faked(batch, mode), torch.device(SPARE))
        for _ in range(2):
            optimizer.zero_grad()
            loss, scalars = td_loss(network, target, on_spare, support_ratio=0.6)
            loss.backward()
            nn.utils.clip_grad_norm_(learning, 10.0)
            optimizer.step()
            target.move(network, 0.02)
        assert {str(p.grad.device) for p in learning if p.grad is not None} == {SPARE}
        assert {str(v.device) for v in scalars.values()} == {SPARE}


@check
def a_policy_decides() -> None:
    network = QNetwork(new().precompute_items(), WEIGHTS, PolicyConfig(support_density=0.0))
    batch = transition()
    with fakes() as mode, torch.no_grad():
        moved(network, mode)
        on_spare = on_device(faked(batch, mode), torch.device(SPARE))
        pool = on_spare.next_candidates
        q_BK, utility_BK = network.q_values(on_spare.state, pool.item_id)
        allowed_BK = support_mask(utility_BK, pool.mask, 0.6)
        slot_B = best_slot(q_BK, allowed_BK, pool.item_id)
        assert str(slot_B.device) == SPARE


def told(made: Callable[[], None]) -> str:
    """What went wrong, nothing where nothing did."""
    try:
        made()
    except Exception:
        return traceback.format_exc()[-3000:]
    return ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    _setup_privateuseone_for_python_backend("spare")
    print(json.dumps({name: told(made) for name, made in CHECKS.items()}))
