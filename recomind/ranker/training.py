"""Fits the ranker on impressions and calibrates it on later ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset
from recomind.errors import RecomindError
from recomind.ranker.config import RankerConfig
from recomind.ranker.model import SessionRanker
from recomind.streams import make_generator

Progress = Callable[[int, int, float], None]  # done, total, loss


def new_ranker(dataset: SessionDataset, config: RankerConfig, seed: int) -> SessionRanker:
    """A ranker with fresh weights, standardised on the dataset's training rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(make_generator(seed).initial_seed() % 2**31))
        ranker = SessionRanker(dataset.catalogue, dataset.tasks, dataset.num_user_features, config)
    sample = dataset.rows("train", holdout=False)
    sample = sample[torch.randperm(len(sample), generator=make_generator(seed))[:50_000]]
    dense = dataset.catalogue.features(dataset.item_id(sample), dataset.snapshot(sample)).dense
    _standardise(ranker.items.mean, ranker.items.scale, dense)
    _standardise(ranker.user_mean, ranker.user_scale, dataset.state(sample).user_features)
    return ranker


def _standardise(mean: Tensor, scale: Tensor, values: Tensor) -> None:
    if values.shape[-1] and len(values):
        mean.copy_(values.mean(0))
        scale.copy_(values.std(0).clamp(min=1e-3))


def fit_ranker(
    ranker: SessionRanker,
    dataset: SessionDataset,
    *,
    rows: Tensor,
    calibration_rows: Tensor,
    num_epochs: int,
    seed: int,
    progress: Progress | None = None,
) -> SessionRanker:
    """Train on `rows`, keep the epoch with the best log-loss on `calibration_rows`, calibrate.

    Raises:
        RecomindError: there is nothing to train on, or the loss is not finite.
    """
    config = ranker.config
    if len(rows) == 0:
        raise RecomindError("no training rows", mend="check the splits of the sessions")
    generator, optimizers = make_generator(seed), _optimizers(ranker, config)
    per_epoch = -(-len(rows) // config.batch_size)
    total = per_epoch * num_epochs
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(o, config.learning_rate, total_steps=total + 1)
        for o in optimizers
    ]
    best, best_loss = _weights(ranker), float("inf")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed() % 2**31)
        for epoch in range(num_epochs):
            order = rows[torch.randperm(len(rows), generator=generator)]
            for index, batch in enumerate(order.split(config.batch_size)):
                loss = _update(ranker, dataset, batch, optimizers)
                for schedule in schedules:
                    schedule.step()
                if not loss == loss:
                    raise RecomindError("loss is NaN", got=f"epoch {epoch}, batch {index}")
                if progress is not None:
                    progress(epoch * per_epoch + index + 1, total, loss)
            loss = (
                log_loss(*predict(ranker, dataset, calibration_rows))
                if len(calibration_rows)
                else -float(epoch)
            )
            if loss < best_loss:
                best, best_loss = _weights(ranker), loss
    ranker.load_state_dict(best)
    ranker.eval()
    if len(calibration_rows):
        calibrate(ranker, *predict(ranker, dataset, calibration_rows))
    return ranker.precompute_items()


def _optimizers(ranker: SessionRanker, config: RankerConfig) -> list[torch.optim.Optimizer]:
    """Sparse Adam for the id table, AdamW for the rest: dense Adam on a table costs its size."""
    table = ranker.items.id_table.weight
    dense = [p for p in ranker.parameters() if p is not table]
    return [
        torch.optim.AdamW(dense, lr=config.learning_rate, weight_decay=config.weight_decay),
        torch.optim.SparseAdam([table], lr=config.learning_rate),
    ]


def _update(
    ranker: SessionRanker,
    dataset: SessionDataset,
    rows: Tensor,
    optimizers: list[torch.optim.Optimizer],
) -> float:
    ranker.train()
    snapshot = dataset.snapshot(rows)
    encoding = ranker.encode_state(dataset.state(rows), snapshot)
    logits = ranker.score(encoding, dataset.item_id(rows)[:, None], snapshot[:, None])[:, 0]
    loss = nn.functional.binary_cross_entropy_with_logits(logits, dataset.labels(rows))
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    dense = [p for p in ranker.parameters() if p.grad is not None and not p.grad.is_sparse]
    torch.nn.utils.clip_grad_norm_(dense, 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()


@torch.no_grad()
def predict(ranker: SessionRanker, dataset: SessionDataset, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Calibrated logits [R, H] and labels [R, H] of impressions, at their own snapshots."""
    ranker.eval()
    logits = []
    for batch in rows.split(4096):
        snapshot = dataset.snapshot(batch)
        encoding = ranker.encode_state(dataset.state(batch), snapshot)
        logits.append(ranker.score(encoding, dataset.item_id(batch)[:, None], snapshot[:, None]))
    return torch.cat(logits)[:, 0], dataset.labels(rows)


def log_loss(logits: Tensor, labels: Tensor) -> float:
    """Mean over tasks and rows, in nats."""
    return nn.functional.binary_cross_entropy_with_logits(logits, labels).item()


def calibrate(ranker: SessionRanker, logits: Tensor, labels: Tensor) -> None:
    """Platt scaling per task (Platt 1999), composed with what is already there.

    A task with fewer than 50 labels of either kind only gets its offset moved.
    """
    for task in range(logits.shape[1]):
        positive = int(labels[:, task].sum())
        few = min(positive, len(labels) - positive)
        if few == 0:
            continue
        slope, offset = _platt(logits[:, task], labels[:, task], fixed_slope=few < 50)
        ranker.calibration_slope[task] *= slope
        ranker.calibration_offset[task] = slope * ranker.calibration_offset[task] + offset


def _platt(logits: Tensor, labels: Tensor, *, fixed_slope: bool) -> tuple[float, float]:
    slope = torch.ones((), requires_grad=not fixed_slope)
    offset = torch.zeros((), requires_grad=True)
    parameters = [p for p in (slope, offset) if p.requires_grad]
    optimizer = torch.optim.LBFGS(parameters, max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(slope * logits + offset, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return max(slope.item(), 0.05), offset.item()


def _weights(ranker: SessionRanker) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in ranker.state_dict().items()}
