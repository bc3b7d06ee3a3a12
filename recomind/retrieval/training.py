"""Training of the towers: in-batch softmax over positives, corrected for how common items are.

Symbols: `B` positives of a batch, `D` length of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from recomind.data import SessionDataset
from recomind.errors import SchemaError
from recomind.retrieval.config import RetrievalConfig
from recomind.retrieval.two_tower import TwoTower, item_vectors, tower_shape, user_vectors
from recomind.streams import make_generator

OnBatch = Callable[[int, int, float], None]  # batches done, batches in all, loss


def positive_rows(dataset: SessionDataset, *splits: str) -> Tensor:
    """Rows [B] int64 of users in training whose first task was answered.

    Raises:
        SchemaError: there is none.
    """
    rows = dataset.rows(*splits, holdout=False)
    rows = rows[dataset.labels(rows)[:, 0] > 0]
    if not len(rows):
        raise SchemaError(
            f"no positive row of task {dataset.tasks[0]!r} in split {', '.join(splits)}",
            mend="check the labels, or put another task first",
        )
    return rows


def log_frequency(item_id: Tensor) -> Tensor:
    """Log [B] float32 of the share that each row's item has among the rows `item_id` [B]."""
    _, inverse, count = item_id.unique(return_inverse=True, return_counts=True)
    return (count[inverse].double() / len(item_id)).log().float()


def in_batch_loss(logits_BB: Tensor, item_id_B: Tensor, log_frequency_B: Tensor) -> Tensor:
    """Softmax over the batch's items with the logQ correction, a scalar.

    `s(x_i, y_j) - log p_j` (Yi et al., RecSys 2019, section 3), with p_j counted exactly over the
    training rows rather than estimated in a stream. Another row's event on row i's own item is
    no negative of row i (ours).

    Args:
        logits_BB: [B, B] cosine over temperature, user of row i against item of column j.
        item_id_B: [B] int64.
        log_frequency_B: [B], log p_j.
    """
    same_BB = item_id_B[:, None] == item_id_B[None, :]
    same_BB = same_BB & ~torch.eye(len(item_id_B), dtype=torch.bool)
    corrected_BB = (logits_BB - log_frequency_B).masked_fill(same_BB, -torch.inf)
    return functional.cross_entropy(corrected_BB, torch.arange(len(item_id_B)))


def fit_towers(
    dataset: SessionDataset, config: RetrievalConfig, on_batch: OnBatch | None = None
) -> TwoTower:
    """Train both towers on the positive rows of the split "train".

    Every item is seen as of its row's snapshot, so that no later popularity leaks in.

    Raises:
        SchemaError: no positive row, or a loss that is not finite.
    """
    generator = make_generator(config.seed)
    rows = positive_rows(dataset, "train")
    frequency = log_frequency(dataset.item_id(rows))
    shape = tower_shape(dataset.catalogue, dataset.num_user_features, config)
    model = TwoTower(shape, generator)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    num_batches = config.num_epochs * max(1, len(rows) // config.batch_size)
    for done, index in enumerate(_batches(len(rows), config, generator), start=1):
        loss = _batch_loss(model, dataset, rows[index], frequency[index], config.temperature)
        value = _finite(loss)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if on_batch is not None:
            on_batch(done, num_batches, value)
    return model.eval()


def _batches(num: int, config: RetrievalConfig, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled indices in full batches; the rest of an epoch is dropped, a small set is one."""
    for _ in range(config.num_epochs):
        order = torch.randperm(num, generator=generator)
        full = max(1, num // config.batch_size) * config.batch_size
        yield from order[:full].split(config.batch_size)


def _batch_loss(
    model: TwoTower, dataset: SessionDataset, rows: Tensor, frequency: Tensor, temperature: float
) -> Tensor:
    snapshot, item_id = dataset.snapshot(rows), dataset.item_id(rows)
    users_BD = user_vectors(model, dataset.catalogue, dataset.state(rows), snapshot)
    items_BD = item_vectors(model, dataset.catalogue, item_id, snapshot)
    return in_batch_loss(users_BD @ items_BD.T / temperature, item_id, frequency)


def _finite(loss: Tensor) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise SchemaError(
            "the loss of the towers is not finite",
            got=value,
            mend="look for NaN in the features, or lower retrieval.learning_rate",
        )
    return value
