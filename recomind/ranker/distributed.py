"""Trains the ranker in several processes: tables sharded, the dense part data-parallel.

Symbols: `W` processes, `b` impressions of a batch, `b_w` of them those of process `w`.

    tables       row- or table-wise, a part in each process    (DistributedModelParallel)
    dense part   a copy in each process, gradients averaged    (DistributedDataParallel within)
    a batch      the same for any W; each process takes every W-th impression of it

Both parts divide the sum of the processes' gradients by W (TorchRec's gradient division). Each
process weighs its mean loss by W b_w / b, so that what is descended is the mean over the batch,
also where the shares differ by one. Hence the curve of the loss does not depend on W.

Tables learn by row-wise Adagrad, fused into the backward pass: its state is one number a row,
where the sparse Adam of `fit_ranker` keeps two tables more.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torchrec.distributed import DistributedModelParallel

from recomind.artifacts import load_tensors, reading, save_tensors
from recomind.data import SessionDataset, SessionSource
from recomind.errors import ArtifactError, ConfigError
from recomind.ranker.averaging import WeightAverage
from recomind.ranker.checkpoint import Checkpoint
from recomind.ranker.model import SessionRanker
from recomind.ranker.sharding import fill, gathered_state, load_gathered, shard, summed
from recomind.ranker.training import (
    _MAX_NORM,
    Progress,
    Rows,
    _Fit,
    calibrate_on,
    later_rows,
    make_optimizers,
    training_rows,
)


def train_sharded(
    ranker: SessionRanker,
    source: SessionSource,
    *,
    num_epochs: int,
    seed: int,
    rows: Rows = training_rows,
    calibration_rows: Rows = later_rows,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    sharding: Mapping[str, str] | None = None,
) -> SessionRanker:
    """Train with every process of the default group, which calls this with equal arguments.

    Batches, their order and the learning rates are those of `fit_ranker`. The last weights are
    kept (the dense ones as their running average), not the best: a judgement by later days in
    mid-training would stop every process. Each process ends with the whole ranker, calibrated, so
    each needs memory for the whole tables.

    Args:
        ranker: the same in every process, such as `new_ranker` of one seed.
        source: the same sessions in every process.
        num_epochs: passes over the log.
        seed: of order, dropout and hidden ids.
        rows: the impressions of a block to train on.
        calibration_rows: those to calibrate by.
        progress: told the share done and the loss of the whole batch, after every update.
        checkpoint: safetensors file on storage that all processes share, written after every
            block; any number of processes goes on from it. Removed at the end.
        sharding: table -> "table_wise" or "row_wise"; TorchRec's planner chooses for the others.

    Raises:
        ConfigError: no process group, one that is not on CPUs, an unknown table or sharding, or
            a Next Action Loss, whose lookups would differ from process to process.
        ArtifactError: the checkpoint does not fit, or only some processes see it.
        RecomindError: there is nothing to train on, or the loss is not finite.
    """
    _check(ranker)
    ranker.calibration.reset()
    ranker.table = None
    fit = _ShardedFit(
        _copy(ranker), source, num_epochs, seed, rows, calibration_rows, sharding=sharding or {}
    )
    state = _ShardedCheckpoint(checkpoint, fit)
    state.restore()
    fit.share = state.share
    with torch.random.fork_rng(devices=[]):
        for epoch in range(state.epoch, num_epochs):
            for loss in fit.epoch(epoch, state):
                if progress is not None:
                    progress(fit.share, loss)
    fit.average.swap()
    ranker.load_state_dict(gathered_state(fit.model))
    calibrate_on(ranker, source, calibration_rows)
    state.remove()
    return ranker.precompute_items()


def _check(ranker: SessionRanker) -> None:
    backend = dist.get_backend() if dist.is_initialized() else None
    if backend != "gloo":
        raise ConfigError(
            "sharded training needs a process group on CPUs",
            got=backend,
            expected="gloo",
            mend='call torch.distributed.init_process_group("gloo") first',
        )
    if ranker.config.next_action_weight:
        raise ConfigError(
            "the Next Action Loss is not sharded: its negatives are those of one process",
            got=f"ranker.next_action_weight={ranker.config.next_action_weight}",
            expected=0.0,
        )


def _copy(ranker: SessionRanker) -> SessionRanker:
    """A ranker of the same weights to shard, which takes its tables apart; shares the catalogue."""
    shared = {id(ranker.catalogue): ranker.catalogue}
    sharded = copy.deepcopy(ranker, shared)
    # The layer has no part in the loss, and data parallelism waits for every gradient.
    sharded.next_action.requires_grad_(False)
    return sharded


@dataclass(slots=True)
class _ShardedFit(_Fit):
    """The updates of `fit_ranker`, shared among processes."""

    sharding: Mapping[str, str] = field(default_factory=dict)
    model: DistributedModelParallel = field(init=False)
    table_rows: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.table_rows = {
            name: len(bag.get_parameter("weight"))
            for name, bag in self.ranker.items.tables.embedding_bags.items()
        }
        self.model = shard(self.ranker, self.sharding)
        fused: Any = self.model.fused_optimizer
        for group in fused.param_groups:
            group["rate"] = 1.0
        self.optimizers = [make_optimizers(self.ranker, self.ranker.config)[0], fused]
        self.dense = [p for group in self.optimizers[0].param_groups for p in group["params"]]
        self.average = WeightAverage(self.dense, self._average_rate())

    def _update(self, block: SessionDataset, rows: Tensor) -> float:
        """One update; returns the loss of the whole batch.

        Every process has to look up its tables: a batch with fewer impressions than processes
        gives those without a share a row of weight 0.
        """
        self.ranker.train()
        rank, size = dist.get_rank(), dist.get_world_size()
        if rank > 0:  # or all processes would drop the same of their shares
            torch.manual_seed(int(torch.randint(2**31, ())) + rank)
        for optimizer in self.optimizers:
            optimizer.zero_grad()  # gives the tables their learning rate; a lookup takes it along
        own = torch.tensor_split(rows, size)[rank]  # whole sessions, but at its ends
        weight = size * len(own) / len(rows)
        loss = self.model(block, own if len(own) else rows[:1]) * weight
        mean = loss.detach() / size
        dist.all_reduce(mean)
        if not math.isfinite(mean.item()):
            return mean.item()  # in all processes, before the backward pass: weights stay good
        loss.backward()
        nn.utils.clip_grad_norm_(self.dense, _MAX_NORM)
        self.optimizers[0].step()
        self.average.update()
        return mean.item()


class _ShardedCheckpoint(Checkpoint):
    """Where sharded training stands, in whole tensors, for any number of processes."""

    def __init__(self, path: Path | None, fit: _ShardedFit) -> None:
        super().__init__(path, fit.model, fit.optimizers[:1], fit.average)
        self.fit, self.seeks_best = fit, False

    def save(self, epoch: int, block: int, share: float) -> None:
        """Gather, and write from one process, whole or not at all."""
        self.epoch, self.block, self.share = epoch, block, share
        if self.path is None:
            return
        tensors = {f"ranker.{k}": v for k, v in gathered_state(self.fit.model).items()}
        tensors |= {f"adagrad.{k}": v for k, v in self._moments().items()}
        for index, values in self.optimizers[0].state_dict()["state"].items():
            tensors |= {f"adamw.{index}.{name}": value for name, value in values.items()}
        tensors |= {f"average.{i}": value for i, value in enumerate(self.average.average)}
        tensors["place"] = torch.tensor([epoch, block, self.average.num_updates])
        tensors["share"] = torch.tensor(share, dtype=torch.float64)
        if dist.get_rank() == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            staged = self.path.with_suffix(".tmp")
            save_tensors(staged, tensors)
            staged.replace(self.path)

    def _shards(self) -> dict[str, ShardedTensor]:
        """Adagrad's sums of squares [rows] by table, of the tables that this process holds."""
        states: Any = self.fit.model.fused_optimizer.state_dict()["state"]
        found = {name: value for state in states.values() for name, value in state.items()}
        return {name.removesuffix(".momentum1"): value for name, value in found.items()}

    @torch.no_grad()
    def _moments(self) -> dict[str, Tensor]:
        shards, sizes = self._shards(), self.fit.table_rows
        return {name: summed(torch.Size([n]), shards.get(name)) for name, n in sizes.items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Go on from the file, where there is one."""
        if self.path is None or not self._all_see():
            return
        tensors = load_tensors(self.path, finite=False)
        with reading("checkpoint", self.path, "delete it, and training starts anew"):
            self._take(tensors)

    def _take(self, tensors: dict[str, Tensor]) -> None:
        self.epoch, self.block, self.average.num_updates = tensors["place"].tolist()
        self.share = float(tensors["share"])
        for index, kept in enumerate(self.average.average):
            kept.copy_(tensors[f"average.{index}"])
        load_gathered(self.fit.model, _below("ranker.", tensors))
        moments = _below("adagrad.", tensors)
        for name, value in self._shards().items():
            fill(name, value, moments[name])
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("adamw.", tensors).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        optimizer = self.optimizers[0]
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})

    def _all_see(self) -> bool:
        """Whether the file is there: for all processes or for none, or they would part ways."""
        assert self.path is not None
        seen = torch.tensor(int(self.path.is_file()))
        dist.all_reduce(seen)
        if int(seen) not in (0, dist.get_world_size()):
            raise ArtifactError(
                "a checkpoint that only some processes see",
                got=f"{int(seen)} of {dist.get_world_size()} see {self.path}",
                mend="put it on storage that all hosts share",
            )
        return bool(seen)

    def remove(self) -> None:
        """Training is done, in all processes."""
        dist.barrier()
        if dist.get_rank() == 0:
            super().remove()


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
