"""Fits the ranker on impressions, block by block, and calibrates it on the calibration split.

A log need not fit in memory: a `SessionSource` yields it in blocks, one of which is held at a time.
The updates on a block depend on seed, epoch and the block's number alone, so training resumes
after a stop as if there had been none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset, SessionSource
from recomind.devices import CPU, device_of, forked_generators, products_in, require_precision
from recomind.errors import ConfigError, RecomindError, SchemaError
from recomind.ranker.averaging import WeightAverage
from recomind.ranker.checkpoint import Checkpoint
from recomind.ranker.config import RankerConfig
from recomind.ranker.loss import ImpressionLoss
from recomind.ranker.model import SessionRanker, user_numbers
from recomind.ranker.prediction import log_loss, predict_blocks
from recomind.ranker.run_batch import batches_ahead
from recomind.ranker.runs import order_by_runs
from recomind.ranker.table_adam import TableAdam
from recomind.ranker.updates import DeviceUpdates
from recomind.streams import draw_rows, hash_int64, make_generator
from recomind.types import Ranker

Progress = Callable[[float, float], None]  # share done, loss
Rows = Callable[[SessionDataset], Tensor]  # which rows of a block

_SAMPLE_ROWS = 50_000  # that decide the bins of the features
_AVERAGED_PARTS = 10  # the running average spans one tenth of the training
_WARM_UP = 0.3  # share of training until the learning rate is at its peak
_MAX_NORM = 1.0  # for the dense gradient
_SMALLEST_BATCH = 16  # impressions, however short the log
_SALT = 89


def training_rows(block: SessionDataset) -> Tensor:
    """Training impressions of users that are not held out."""
    return block.rows("train", holdout=False)


def later_rows(block: SessionDataset) -> Tensor:
    """The calibration split: later impressions of users that are not held out."""
    return block.rows("calibration", holdout=False)


def new_ranker(source: SessionSource, config: RankerConfig, seed: int) -> SessionRanker:
    """A ranker with fresh weights, its features binned on a sample of the training rows.

    Raises:
        RecomindError: there is nothing to train on.
        ConfigError: a task with a utility weight that the log does not have.
    """
    unknown = [task for task in config.utility_weights if task not in source.tasks]
    if unknown:
        raise ConfigError(
            "ranker.utility_weights names a task that the log does not have",
            got=unknown,
            expected=f"of {list(source.tasks)}",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(make_generator(seed).initial_seed() % 2**31))
        ranker = SessionRanker(source.catalogue, source.tasks, source.num_user_features, config)
    users, items = _sample(source, seed)
    ranker.users.fit(users)
    ranker.items.numbers.fit(items)
    return ranker


def _sample(source: SessionSource, seed: int) -> tuple[Tensor, Tensor]:
    """User features [R, U] and item features [R, F] of some training rows."""
    generator, users, items, num = make_generator(seed), [], [], 0
    for block in source.blocks(generator):
        rows = training_rows(block)
        rows = draw_rows(rows, _SAMPLE_ROWS - num, generator)
        users.append(user_numbers(block.state(rows)))
        items.append(block.catalogue.features(block.item_id(rows), block.snapshot(rows)).dense)
        num += len(rows)
        if num >= _SAMPLE_ROWS:
            break
    if num == 0:
        raise RecomindError("no training rows", mend="check the splits of the sessions")
    return torch.cat(users), torch.cat(items)


def fit_ranker(
    ranker: SessionRanker,
    source: SessionSource,
    *,
    num_epochs: int,
    seed: int,
    rows: Rows = training_rows,
    calibration_rows: Rows = later_rows,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    device: torch.device = CPU,
) -> SessionRanker:
    """Train, keep the weights with the best log-loss on the calibration split, calibrate there.

    Args:
        ranker: from `new_ranker`.
        source: sessions.
        num_epochs: at most; training stops where the calibration split stops getting better.
        seed: for order, dropout and hidden ids.
        rows: the impressions of a block to train on.
        calibration_rows: the rows to evaluate and calibrate on.
        progress: called after every update with the share done and the loss; on a device other
            than the processor with the mean loss when it was last read.
        checkpoint: file from which training goes on after a stop; removed at the end.
        device: where the weights are meanwhile; the ranker that is returned is on the processor.
            Order, hidden ids and learning rates are the same on every device; the masks of
            dropout are drawn by the device itself, so that nothing waits for them.

    Raises:
        ConfigError: `config.precision` is another than full, and the device the processor.
        RecomindError: there is nothing to train on, or the loss is not finite: what was good is
            in the checkpoint. Or the device has too little memory for a batch.
        SchemaError: a task with a utility weight is always 0 or always 1.
    """
    require_precision(ranker.config.precision, device)
    ranker.calibration.reset()
    fit = _Fit(ranker.to(device), source, num_epochs, seed, rows, calibration_rows)
    state = Checkpoint(checkpoint, ranker, fit.optimizers, fit.average)
    state.restore()
    fit.share = state.share
    with forked_generators(device), products_in(ranker.config.precision):
        for epoch in range(state.epoch, num_epochs):
            if state.checks_without_gain >= ranker.config.patience:
                break
            for loss in fit.epoch(epoch, state):
                if progress is not None:
                    progress(fit.share, loss)
    if not state.best:
        fit.average.swap()
    state.take_best()
    if fit.on_device is not None:
        fit.on_device.tell_skipped()
    calibrate_on(ranker, source, calibration_rows)
    state.remove()
    return ranker.to(CPU).precompute_items()


@dataclass(slots=True)
class _Fit:
    """What stays the same from update to update."""

    ranker: SessionRanker
    source: SessionSource
    num_epochs: int
    seed: int
    rows: Rows
    calibration_rows: Rows
    share: float = 0.0  # the part of the training that is done
    loss: ImpressionLoss = field(init=False)
    optimizers: list[torch.optim.Optimizer] = field(init=False)
    dense: list[nn.Parameter] = field(init=False)
    average: WeightAverage = field(init=False)
    on_device: DeviceUpdates | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.loss = ImpressionLoss(self.ranker)
        self.optimizers = make_optimizers(self.ranker, self.ranker.config)
        groups = self.optimizers[0].param_groups
        self.dense = [parameter for group in groups for parameter in group["params"]]
        self.average = WeightAverage(self.dense, self._average_rate())
        if device_of(self.ranker) != CPU:
            parts = (self.loss, self.optimizers, self.dense, self.average)
            self.on_device = DeviceUpdates(*parts, max_norm=_MAX_NORM)

    @property
    def batch_size(self) -> int:
        """Impressions of an update."""
        config = self.ranker.config
        of_epoch = self.source.num_rows("train", holdout=False) // config.epoch_updates
        return min(config.batch_size, max(_SMALLEST_BATCH, of_epoch))

    def _average_rate(self) -> float:
        """Rate of the running average: over a tenth of the training at most."""
        rate = self.ranker.config.average_rate
        num_rows = self.source.num_rows("train", holdout=False) * self.num_epochs
        shortest = _AVERAGED_PARTS * self.batch_size / max(1, num_rows)
        return min(1.0, max(rate, shortest)) if rate > 0 else 0.0

    def epoch(self, epoch: int, state: Checkpoint) -> Iterator[float]:
        """One pass over the log; yields the loss of each update."""
        order = make_generator(self._seed(epoch))
        num_rows = max(1, self.source.num_rows("train", holdout=False))
        begun, updates, labels_of = 0, 0, torch.zeros(2, len(self.ranker.tasks))
        for number, block in enumerate(self.source.blocks(order)):
            rows = self.rows(block)
            until = begun + len(training_rows(block))
            if number >= state.block:
                for share, loss in self._block(block, rows, epoch, number):
                    updates += 1
                    at = begun + share * (until - begun)
                    before, self.share = self.share, (epoch + at / num_rows) / self.num_epochs
                    if not math.isfinite(loss):
                        place = f"epoch {epoch + 1}, block {number + 1}, batch {updates}"
                        raise _not_finite(loss, place, state)
                    self._check_where_due(before, state)
                    yield loss
                state.save(epoch, number + 1, self.share)
            labels = block.labels(rows)
            labels_of += torch.stack([labels.sum(0), (1 - labels).sum(0)])
            begun = until
        if not bool(labels_of.any()):
            raise RecomindError("no training rows", mend="check the splits of the sessions")
        self._require_both_classes(labels_of)
        state.save(epoch + 1, 0, self.share)

    def _seed(self, *places: int) -> int:
        """The seed of an epoch, or of a block in it."""
        mixed = torch.tensor(self.seed)
        for place in places:
            mixed = hash_int64(mixed + place, _SALT)
        return int(mixed) % 2**31

    def _block(
        self, block: SessionDataset, rows: Tensor, epoch: int, number: int
    ) -> Iterator[tuple[float, float]]:
        """Updates on one block: the share of the block that is done, and the loss."""
        generator = make_generator(self._seed(epoch, number))
        torch.manual_seed(generator.initial_seed() % 2**31)
        rows = self._ordered(block, rows, generator)
        done = 0
        if len(rows) == 0:  # or `split` would give one batch of none
            return
        for num, loss in self._losses(block, rows.split(self.batch_size)):
            done += num
            yield done / len(rows), loss

    def _losses(
        self, block: SessionDataset, parts: Sequence[Tensor]
    ) -> Iterator[tuple[int, float]]:
        """Updates, one for each part of the rows: impressions and loss."""
        if self.on_device is None:
            for rows in parts:
                self._set_learning_rate()
                yield len(rows), self._update(block, rows)
            return
        config, gathered = self.ranker.config, ((rows, None) for rows in parts)
        if self.ranker.scores_runs:
            gathered = batches_ahead(block, parts, config.run_length, self.ranker.catalogue)
        for rows, batch in gathered:
            self._set_learning_rate()
            yield len(rows), self.on_device(block, rows, batch)

    def _ordered(self, block: SessionDataset, rows: Tensor, generator: torch.Generator) -> Tensor:
        if self.ranker.config.session_batches:
            return by_session(block, rows, generator)
        if self.ranker.scores_runs:
            return order_by_runs(block, rows, self.ranker.config.run_length, generator)
        return draw_rows(rows, len(rows), generator)

    def _update(self, block: SessionDataset, rows: Tensor) -> float:
        self.ranker.train()
        loss = self.loss(block, rows)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        value = loss.item()
        if not math.isfinite(value):
            return value  # no step: the weights stay good
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.dense, _MAX_NORM)
        if not bool(norm.isfinite()):
            return math.nan  # no step either: clipping makes NaN of an infinite gradient
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update()
        return value

    def _set_learning_rate(self) -> None:
        """One cycle over the whole training (Smith and Topin, arXiv:1708.07120), by share done."""
        peak, share = self.ranker.config.learning_rate, min(self.share, 1.0)
        if share < _WARM_UP:
            rate = 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * share / _WARM_UP))
        else:
            rate = 0.5 * (1 + math.cos(math.pi * (share - _WARM_UP) / (1 - _WARM_UP)))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * group["rate"] * max(rate, 1e-4)

    def _check_where_due(self, before: float, state: Checkpoint) -> None:
        """Evaluate on the calibration split `checks_per_epoch` times an epoch, and at the end."""
        num = self.ranker.config.checks_per_epoch * self.num_epochs
        if int(before * num) == int(self.share * num) or not state.seeks_best:
            return
        kept = torch.get_rng_state()
        with self.average.applied():
            logits, labels = predict_blocks(self.ranker, self.source, self.calibration_rows)
            if len(labels) == 0:
                state.seeks_best = False
            else:
                loss = log_loss(logits, labels)
                if not math.isfinite(loss):
                    place = f"the calibration split, {self.share:.0%} of the training done"
                    raise _not_finite(loss, place, state)
                state.judge(loss)
        torch.set_rng_state(kept)

    def _require_both_classes(self, counts_2H: Tensor) -> None:
        for task, (ones, zeros) in zip(self.ranker.tasks, counts_2H.T.tolist(), strict=True):
            weight = self.ranker.config.utility_weights.get(task, 0.0)
            if min(ones, zeros) == 0 and weight != 0.0:
                raise SchemaError(
                    f"task {task!r} is one class only in the training rows",
                    got=f"{int(ones)} ones, {int(zeros)} zeros",
                    mend="bring logs in which it varies, or leave it out of the utility",
                )


def by_session(block: SessionDataset, rows: Tensor, generator: torch.Generator) -> Tensor:
    """`rows` in a random order of their sessions: what a batch encodes is then shared."""
    if len(rows) == 0:
        return rows
    _, session = torch.unique(block.session_index(rows), return_inverse=True)
    place = torch.randperm(int(session.max()) + 1, generator=generator)
    return rows[place[session].argsort(stable=True)]


def _not_finite(loss: float, place: str, state: Checkpoint) -> RecomindError:
    mend = "lower ranker.learning_rate; look for extreme numbers among the features"
    if state.path is not None and state.path.is_file():
        mend += f"; the weights of the blocks before are in {state.path}"
    return RecomindError("the loss is not finite", got=f"{loss} at {place}", mend=mend)


def make_optimizers(ranker: nn.Module, config: RankerConfig) -> list[torch.optim.Optimizer]:
    """AdamW for the dense part, sparse Adam for the tables: dense Adam costs a table's size."""
    tables = [p for n, p in ranker.named_parameters() if ".embedding_bags." in n]
    wide = [p for n, p in ranker.named_parameters() if "wide_" in n]
    apart = {id(p) for p in [*tables, *wide]}
    deep = [p for p in ranker.parameters() if id(p) not in apart and p.requires_grad]
    groups = [{"params": deep, "rate": 1.0}, {"params": wide, "rate": config.wide_rate}]
    sparse = TableAdam([{"params": tables, "rate": 1.0}], lr=config.learning_rate)
    decay = config.weight_decay
    dense = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=decay, fused=True)
    return [dense, sparse]


def calibrate_on(ranker: Ranker, source: SessionSource, rows: Rows = later_rows) -> dict[str, str]:
    """Fit the calibration on the calibration split; return what was chosen for each task."""
    raw = ranker.calibration  # type: ignore[attr-defined]
    raw.reset()
    logits, labels = predict_blocks(ranker, source, rows)
    if len(labels) == 0:
        return {}
    return dict(zip(ranker.tasks, raw.fit(logits, labels), strict=True))
