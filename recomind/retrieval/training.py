"""Training of the towers: softmax over sampled items, corrected for the sampling.

Symbols: `B` states of a batch, `S` uniform draws, `M` = B + S columns, `D` length of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from recomind.data import SessionDataset
from recomind.devices import CPU, to_device, within_memory
from recomind.errors import SchemaError
from recomind.retrieval.config import RetrievalConfig
from recomind.retrieval.targets import Targets, make_targets
from recomind.retrieval.two_tower import TwoTower, item_vectors, tower_shape, user_vectors
from recomind.streams import make_generator

OnBatch = Callable[[int, int, float], None]  # batches done, batches in all, loss


@dataclass(kw_only=True, slots=True)
class Batch:
    """States and the items that they are scored against; column i is row i's own positive."""

    row_B: Tensor  # [B] int64, rows of the states
    item_M: Tensor  # [M] int64, the B positives, then S uniform draws
    snapshot_M: Tensor  # [M] int64, snapshots at which the items are seen
    log_q_M: Tensor  # [M] float32, log of how often a column is this item, up to a constant
    positive_BM: Tensor  # [B, M] bool, columns that are among the row's positives


def sampled_softmax_loss(logits_BM: Tensor, log_q_M: Tensor, positive_BM: Tensor) -> Tensor:
    """Softmax over the columns with the logQ correction, a scalar.

    `s(x_i, y_j) - log q_j` (Yi et al., RecSys 2019, section 3). Other columns that are
    positives of row i are not its negatives (ours).

    Args:
        logits_BM: [B, M] cosine over temperature; row i's positive is column i.
        log_q_M: [M], log of how often item j is a column, up to a constant.
        positive_BM: [B, M] bool.
    """
    device = logits_BM.device
    also_BM = positive_BM & ~torch.eye(*positive_BM.shape, dtype=torch.bool, device=device)
    corrected_BM = (logits_BM - log_q_M).masked_fill(also_BM, -torch.inf)
    return functional.cross_entropy(corrected_BM, torch.arange(len(logits_BM), device=device))


def fit_towers(
    dataset: SessionDataset,
    config: RetrievalConfig,
    on_batch: OnBatch | None = None,
    device: torch.device = CPU,
) -> TwoTower:
    """Train both towers on the split "train"; they are returned on the processor.

    Every item is seen at its row's snapshot, so that no later popularity leaks in. Batches are
    drawn on the processor, the same for every `device`.

    Raises:
        SchemaError: there is no positive row, or a loss is not finite.
        RecomindError: the device has too little memory for a batch.
    """
    generator = make_generator(config.seed)
    targets = make_targets(dataset, config)
    shape = tower_shape(dataset.catalogue, dataset.num_user_features, config)
    model = TwoTower(shape, generator).to(device)
    fit = _Fit(model, dataset, targets, config, generator)
    num_batches = config.num_epochs * max(1, len(targets) // config.batch_size)
    for done, index_B in enumerate(_batches(len(targets), config, generator), start=1):
        value = fit.update(index_B)
        if on_batch is not None:
            on_batch(done, num_batches, value)
    return model.to(CPU).eval()


class _Fit:
    """Updates of both towers."""

    def __init__(
        self,
        model: TwoTower,
        dataset: SessionDataset,
        targets: Targets,
        config: RetrievalConfig,
        generator: torch.Generator,
    ) -> None:
        self.model, self.dataset, self.targets = model, dataset, targets
        self.config, self.generator = config, generator
        self.optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)

    def update(self, index_B: Tensor) -> float:
        """One update; the loss."""
        value = within_memory(
            lambda num: self._gradients(index_B[:num]),
            len(index_B),
            what="a batch of the towers",
            setting="retrieval.batch_size",
            probe=lambda num: self._gradients(index_B[:num]),
        )
        self.optimiser.step()
        return value

    def _gradients(self, index_B: Tensor) -> float:
        num_sampled, temperature = self.config.num_sampled, self.config.temperature
        batch = draw_batch(self.dataset, self.targets, index_B, num_sampled, self.generator)
        loss = _batch_loss(self.model, self.dataset, batch, temperature)
        value = _finite(loss)
        self.optimiser.zero_grad()
        loss.backward()
        return value


def _batches(num: int, config: RetrievalConfig, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled indices in full batches, without an epoch's rest; a small set is one batch."""
    for _ in range(config.num_epochs):
        order = torch.randperm(num, generator=generator)
        full = max(1, num // config.batch_size) * config.batch_size
        yield from order[:full].split(config.batch_size)


def draw_batch(
    dataset: SessionDataset,
    targets: Targets,
    index_B: Tensor,
    num_sampled: int,
    generator: torch.Generator,
) -> Batch:
    """A batch of the states `index_B` [B] of `targets`.

    In-batch and uniform negatives together are the mixed negative sampling of Yang et al. (WWW
    2020 companion). A column is corrected by how often either way samples the item,
    `q_j = p_j + S / (B N)` with p_j its exact share of the positives: the balance heuristic of
    Veach and Guibas (SIGGRAPH 1995) for two ways to sample one sum; this use is ours. A uniform
    draw is seen at the snapshot of a row of the batch.
    """
    catalogue, num_rows = dataset.catalogue, len(index_B)
    drawn_B = targets.draw(index_B, generator)
    target_B = targets.positive_P[drawn_B]
    item_M, snapshot_M = dataset.item_id(target_B), dataset.snapshot(target_B)
    if num_sampled:
        item_S = torch.randint(catalogue.num_items, (num_sampled,), generator=generator)
        item_M = torch.cat([item_M, item_S])
        snapshot_M = torch.cat([snapshot_M, snapshot_M[torch.arange(num_sampled) % num_rows]])
    share_M = targets.shares.of(item_M) + num_sampled / (num_rows * catalogue.num_items)
    positive_BM = item_M[:num_rows, None] == item_M
    first_B, last_B = targets.first_A[index_B, None], targets.last_A[index_B, None]
    positive_BM[:, :num_rows] |= (drawn_B >= first_B) & (drawn_B < last_B)
    return Batch(
        row_B=targets.row_A[index_B],
        item_M=item_M,
        snapshot_M=snapshot_M,
        log_q_M=share_M.log().float(),
        positive_BM=positive_BM,
    )


def _batch_loss(
    model: TwoTower, dataset: SessionDataset, batch: Batch, temperature: float
) -> Tensor:
    catalogue, rows = dataset.catalogue, batch.row_B
    users_BD = user_vectors(model, catalogue, dataset.state(rows), dataset.snapshot(rows))
    items_MD = item_vectors(model, catalogue, batch.item_M, batch.snapshot_M)
    log_q_M, positive_BM = (
        to_device(p, users_BD.device) for p in (batch.log_q_M, batch.positive_BM)
    )
    return sampled_softmax_loss(users_BD @ items_MD.T / temperature, log_q_M, positive_BM)


def _finite(loss: Tensor) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise SchemaError(
            "the loss of the towers is not finite",
            got=value,
            mend="check the features for NaN, or lower retrieval.learning_rate",
        )
    return value
