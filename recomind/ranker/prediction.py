"""Predictions of any ranker over logged impressions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset, SessionSource
from recomind.devices import device_of, on_device, to_device
from recomind.ranker.model import SessionRanker
from recomind.ranker.run_scoring import run_logits
from recomind.types import Ranker

_BATCH_ROWS = 1024
_MAX_ROWS = 200_000  # log rows looked at, at most


@torch.no_grad()
def predict(ranker: Ranker, dataset: SessionDataset, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Calibrated logits [R, H] and labels [R, H] of impressions, at their own snapshots.

    Scored where the ranker's weights are; both are returned on the processor. Columns are the
    ranker's tasks, which may be fewer than the log's.
    """
    if isinstance(ranker, nn.Module):
        ranker.eval()
    columns = [dataset.tasks.index(task) for task in ranker.tasks]
    labels = dataset.labels(rows)[:, columns]
    logits = [_logits(ranker, dataset, batch) for batch in rows.split(_BATCH_ROWS) if len(batch)]
    return (torch.cat(logits).cpu() if logits else torch.zeros_like(labels)), labels


def _logits(ranker: Ranker, dataset: SessionDataset, rows: Tensor) -> Tensor:
    if isinstance(ranker, SessionRanker) and ranker.scores_runs:
        return run_logits(ranker, dataset, rows, ranker.config.run_length)
    device = device_of(ranker)
    snapshot, item_id = (
        to_device(part, device) for part in (dataset.snapshot(rows), dataset.item_id(rows))
    )
    encoding = ranker.encode_state(on_device(dataset.state(rows), device), snapshot)
    return ranker.score(encoding, item_id[:, None], snapshot[:, None])[:, 0]


def predict_blocks(
    ranker: Ranker, source: SessionSource, rows: Callable[[SessionDataset], Tensor]
) -> tuple[Tensor, Tensor]:
    """Logits and labels [R, H] of the chosen rows of every block, 200,000 of them at most.

    Where there are more, every second row is dropped as often as needed: all blocks are
    represented, and memory does not grow with the log.
    """
    logits, labels = (torch.zeros(0, len(ranker.tasks)) for _ in range(2))
    stride = 1
    for block in source.blocks():
        chosen = rows(block)[::stride]
        if len(chosen) == 0:
            continue
        block_logits, block_labels = predict(ranker, block, chosen)
        logits, labels = torch.cat([logits, block_logits]), torch.cat([labels, block_labels])
        while len(labels) > _MAX_ROWS:
            logits, labels, stride = logits[::2].clone(), labels[::2].clone(), 2 * stride
    return logits, labels


def log_loss(logits: Tensor, labels: Tensor) -> float:
    """Mean over tasks and rows, in nats."""
    return nn.functional.binary_cross_entropy_with_logits(logits, labels).item()
