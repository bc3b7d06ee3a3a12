"""What is timed, on any device: each arm does its work once and returns how fast it was.

Symbols: `B` states, `K` candidates, `N` items, `D` width of a vector.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ranker_training.nets import DIN
from recomind.candidates import best_slot
from recomind.data import SessionDataset
from recomind.devices import on_device
from recomind.policy import PolicyConfig, QNetwork, support_mask
from recomind.ranker import RankerConfig, fit_ranker, new_ranker, training_rows
from recomind.ranker.loss import ImpressionLoss
from recomind.ranker.run_batch import run_batch
from recomind.ranker.runs import order_by_runs
from recomind.streams import make_generator
from recomind.training.dqn.loss import td_loss
from recomind.training.target import TargetCopy, trainable
from recomind.types import Candidates, Transition

Arm = Callable[[], float]


@dataclass(kw_only=True, slots=True)
class Sizes:
    """How much each arm does."""

    ranker: RankerConfig
    updates: int = 100  # in the shorter of two trainings; the other has three times as many
    transitions: int = 256  # in an update of the policy
    candidates: int = 100  # K
    calls: int = 200  # short ones, timed together
    table_rows: int = 5_000_000  # N of the look-up
    table_width: int = 32  # D of the look-up
    lookups: int = 2_000_000  # rows looked up at once
    product: int = 8_192  # side of the square matrices whose product is the device's best


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long `work` takes, to its end on the device."""
    _wait(device)
    begin = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ranker(block: SessionDataset, sizes: Sizes, device: torch.device) -> Arm:
    """Rows per second of `fit_ranker`: a long training less a short one."""
    config, all_rows = sizes.ranker, training_rows(block)
    epochs = 3

    def fit(num_epochs: int) -> None:
        fit_ranker(
            new_ranker(block, config, 0),
            block,
            num_epochs=num_epochs,
            seed=0,
            rows=lambda _: rows,
            calibration_rows=lambda _: rows[:0],
            device=device,
        )

    rows = all_rows[: sizes.updates * config.batch_size]

    def rate() -> float:
        short, long = (seconds(lambda n=n: fit(n), device) for n in (1, epochs))
        return (epochs - 1) * len(rows) / (long - short)

    return rate


def plain_ranker(block: SessionDataset, sizes: Sizes, device: torch.device) -> Arm:
    """Rows per second of DIN in plain torch, of the ranker's sizes, its batches on the device."""
    config, catalogue = sizes.ranker, block.catalogue
    rows = training_rows(block)[: 4 * config.batch_size]
    vocabularies = [catalogue.num_items, *catalogue.vocab_sizes]
    numbers = block.num_user_features + len(catalogue.dense_names)
    model = DIN(vocabularies, numbers, len(block.tasks)).to(device)
    sparse = list(model.embeddings.parameters())
    dense = [p for p in model.parameters() if all(p is not s for s in sparse)]
    optimizers = [torch.optim.AdamW(dense, fused=True), torch.optim.SparseAdam(sparse)]
    batches = [_plain_batch(block, part, device) for part in rows.split(config.batch_size)]

    def train() -> None:
        for update in range(sizes.updates):
            *inputs, labels = batches[update % len(batches)]
            loss = nn.functional.binary_cross_entropy_with_logits(model(*inputs), labels)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()

    return lambda: sizes.updates * config.batch_size / seconds(train, device)


def _plain_batch(block: SessionDataset, rows: Tensor, device: torch.device) -> list[Tensor]:
    state, item, catalogue = block.state(rows), block.item_id(rows), block.catalogue

    def ids(item_id: Tensor) -> Tensor:
        return torch.cat([item_id[..., None], catalogue.features(item_id).categorical], dim=-1)

    numbers = torch.cat([state.user_features, catalogue.features(item).dense], dim=1)
    parts = [ids(item), numbers, ids(state.history_item_id), state.history_mask, block.labels(rows)]
    return [part.to(device) for part in parts]


def network_of(block: SessionDataset, sizes: Sizes, device: torch.device) -> QNetwork:
    """A policy's network that nothing has trained."""
    ranker = new_ranker(block, sizes.ranker, 0).precompute_items()
    return QNetwork(ranker, {block.tasks[0]: 1.0}, PolicyConfig()).to(device)


def policy_updates(block: SessionDataset, sizes: Sizes, device: torch.device) -> Arm:
    """Updates per second of the policy: the TD loss of logged events, its gradient, and Adam."""
    network = network_of(block, sizes, device)
    target, learning = TargetCopy(network), list(trainable(network).values())
    optimizer = torch.optim.Adam(learning)
    batch = on_device(_transition(block, sizes), device)

    def train() -> None:
        for _ in range(sizes.updates):
            optimizer.zero_grad()
            td_loss(network, target, batch, support_ratio=0.6)[0].backward()
            optimizer.step()
            target.move(network, 0.02)

    return lambda: sizes.updates / seconds(train, device)


def _transition(block: SessionDataset, sizes: Sizes) -> Transition:
    rows, num = training_rows(block)[: sizes.transitions], sizes.transitions
    shape = (len(rows), min(32, sizes.candidates))
    item_id = torch.randint(block.catalogue.num_items, shape, generator=make_generator(0))
    pool = Candidates(
        item_id=item_id,
        mask=torch.ones(shape, dtype=torch.bool),
        log_propensity=torch.zeros(shape),
        batch_size=[len(rows)],
    )
    return Transition(
        state=block.state(rows),
        item_id=block.item_id(rows),
        log_propensity=torch.zeros(len(rows)),
        reward=torch.ones(len(rows)),
        discount=torch.full((len(rows),), 0.9),
        next_state=block.next_state(rows),
        next_candidates=pool,
        batch_size=[min(num, len(rows))],
    )


def decisions(block: SessionDataset, sizes: Sizes, device: torch.device) -> Arm:
    """Microseconds of a decision for one state: Q, utility, support and the best of K."""
    network = network_of(block, sizes, device)
    state = on_device(block.state(training_rows(block)[:1]), device)
    shape = (1, sizes.candidates)
    drawn = torch.randint(block.catalogue.num_items, shape, generator=make_generator(0))
    item_id, mask = drawn.to(device), torch.ones(shape, dtype=torch.bool, device=device)

    @torch.no_grad()
    def decide() -> None:
        for _ in range(sizes.calls):
            q_BK, utility_BK = network.q_values(state, item_id)
            best_slot(q_BK, support_mask(utility_BK, mask, 0.6), item_id).cpu()

    return lambda: 1e6 * seconds(decide, device) / sizes.calls


def lookup_bytes(sizes: Sizes, device: torch.device) -> Arm:
    """Bytes per second of looking up random rows of a table: what is read and what is written."""
    table = torch.zeros(sizes.table_rows, sizes.table_width, device=device)
    drawn = torch.randint(sizes.table_rows, (sizes.lookups,), generator=make_generator(0))
    ids, moved = drawn.to(device), 2 * 4 * sizes.lookups * sizes.table_width
    return lambda: moved / seconds(lambda: nn.functional.embedding(ids, table), device)


def copy_bytes(sizes: Sizes, device: torch.device) -> Arm:
    """Bytes per second of a plain copy of as many: what the device's memory can give."""
    source = torch.zeros(sizes.lookups, sizes.table_width, device=device)
    target, moved = torch.empty_like(source), 2 * 4 * source.numel()
    return lambda: moved / seconds(lambda: target.copy_(source), device)


def best_flops(sizes: Sizes, device: torch.device) -> Arm:
    """Operations per second of one large product in float32."""
    one = torch.ones(sizes.product, sizes.product, device=device)
    return lambda: 2 * sizes.product**3 / seconds(lambda: one @ one, device)


def flops_of_row(block: SessionDataset, sizes: Sizes) -> float:
    """Operations in the products of an update, there and back, for each of its rows."""
    config = replace(sizes.ranker, dropout=0.0)
    ranker, rows = new_ranker(block, config, 0), training_rows(block)
    rows = order_by_runs(block, rows, config.run_length, make_generator(0))[: config.batch_size]
    loss = ImpressionLoss(ranker.train())
    with FlopCounterMode(display=False) as counted:
        loss.of_batch(block, run_batch(block, rows, config.run_length, block.catalogue)).backward()
    return counted.get_total_flops() / len(rows)
