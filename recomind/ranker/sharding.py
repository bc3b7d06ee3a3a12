"""The ranker's loss with its tables sharded among processes, and back to whole tensors.

Whole tensors have the plain ranker's names and lie in no process's special form: what is saved
from them loads into any number of processes, or into none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torchrec import KeyedJaggedTensor, KeyedTensor
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.comm import get_local_size
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DefaultDataParallelWrapper
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import (
    KernelConfig,
    ParameterConstraints,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import LazyAwaitable, ShardingPlan, ShardingType

from recomind.errors import ArtifactError, ConfigError, did_you_mean
from recomind.ranker.loss import ImpressionLoss
from recomind.ranker.model import SessionRanker
from recomind.ranker.tables import Tables, collection

_SHARDING = (ShardingType.TABLE_WISE.value, ShardingType.ROW_WISE.value)
_RESERVED = 0.15  # share of a process's memory that the planner leaves for all but tables
_PREFIX = "ranker."  # the ranker's names inside its loss


class _Sharder(EmbeddingBagCollectionSharder):
    """Offers rows of a table to several processes on CPUs too, where TorchRec does not by itself.

    One large table is shared in no other way: cut by columns, the parts of a row would each have a
    step size of their own, and the curve would depend on the number of processes.
    """

    def sharding_types(self, compute_device_type: str) -> list[str]:
        """Whole tables, or rows of them."""
        return list(_SHARDING)


class _EvenLookups:
    """Pad every process's lookup to the same number of items, and drop the surplus again.

    Each process looks up the different items of its own impressions, so their numbers differ, and
    gloo gathers rows of sharded tables in equal parts only. What is added is empty: no value is
    looked up for it, and no gradient comes back.
    """

    def __init__(self, tables: nn.Module) -> None:
        self.num_items = 0  # in the lookup that is under way
        tables.register_forward_pre_hook(self._pad)
        tables.register_forward_hook(self._cut)

    def _pad(self, _: nn.Module, args: tuple[KeyedJaggedTensor]) -> tuple[KeyedJaggedTensor]:
        keyed = args[0]
        self.num_items = keyed.stride()
        most = torch.tensor(self.num_items)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        lengths_Fn = keyed.lengths().view(len(keyed.keys()), self.num_items)
        padded = nn.functional.pad(lengths_Fn, (0, int(most) - self.num_items))
        return (KeyedJaggedTensor(keyed.keys(), keyed.values(), lengths=padded.flatten()),)

    def _cut(self, _: nn.Module, __: Any, output: LazyAwaitable[KeyedTensor]) -> KeyedTensor:
        pooled = output.wait()
        values = pooled.values()[: self.num_items]
        return KeyedTensor(pooled.keys(), pooled.length_per_key(), values)


def shard(ranker: SessionRanker, sharding: Mapping[str, str]) -> DistributedModelParallel:
    """The ranker's loss, sharded in place, with the weights that the ranker has.

    Raises:
        ConfigError: an unknown table or sharding.
    """
    whole = {name: value.clone() for name, value in ranker.state_dict().items()}
    if isinstance(ranker.items.tables, Tables):
        ranker.items.tables = collection(ranker.items.tables)
    module, rate = ImpressionLoss(ranker), ranker.config.learning_rate
    sharder: Any = _Sharder(
        fused_params={"optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD, "learning_rate": rate}
    )
    model = DistributedModelParallel(
        module,
        plan=_plan(module, sharder, sharding),
        sharders=[sharder],
        data_parallel_wrapper=DefaultDataParallelWrapper(static_graph=False),
    )
    _EvenLookups(ranker.items.tables)
    # On CPUs the shards start with fresh weights, not with those of the tables they came from.
    load_gathered(model, whole)
    return model


def _plan(module: ImpressionLoss, sharder: Any, sharding: Mapping[str, str]) -> ShardingPlan:
    """Which process holds which rows of which table."""
    tables = list(module.ranker.items.tables.embedding_bags)
    for table, kind in sharding.items():
        for got, known in ((table, tables), (kind, _SHARDING)):
            if got not in known:
                raise ConfigError(
                    "unknown sharding", got=f"{table}={kind}", mend=did_you_mean(got, known)
                )
    constraints = {
        table: ParameterConstraints(
            sharding_types=[sharding[table]] if table in sharding else list(_SHARDING),
            compute_kernels=[EmbeddingComputeKernel.FUSED.value],
        )
        for table in tables
    }
    size = dist.get_world_size()
    planner = EmbeddingShardingPlanner(
        topology=TopologyFactory.create_topology(
            TrainerConfig(world_size=size, local_world_size=get_local_size(size)),
            kernel_config=KernelConfig(compute_device="cpu"),
        ),
        batch_size=-(-module.ranker.config.batch_size // size),
        storage_reservation=FixedPercentageStorageReservation(_RESERVED),
        constraints=constraints,
    )
    return planner.collective_plan(module, [sharder], cast(Any, dist.group.WORLD))


@torch.no_grad()
def gathered_state(model: DistributedModelParallel) -> dict[str, Tensor]:
    """Whole tensors under the plain ranker's names, in every process; all have to call it."""
    state = model.state_dict()
    return {name.removeprefix(_PREFIX): _whole(value) for name, value in state.items()}


@torch.no_grad()
def load_gathered(model: DistributedModelParallel, whole: Mapping[str, Tensor]) -> None:
    """Put whole tensors, under the plain ranker's names, into this process's shards.

    Raises:
        ArtifactError: names or shapes that differ.
    """
    own = {name.removeprefix(_PREFIX): value for name, value in model.state_dict().items()}
    if own.keys() != whole.keys():
        raise ArtifactError(
            "weights do not fit the model", got=sorted(own.keys() ^ whole.keys())[:5]
        )
    for name, value in own.items():
        fill(name, value, whole[name])


def _whole(value: Any) -> Tensor:
    """A tensor of all shards, by a sum in which each element has one summand that is not 0."""
    if not isinstance(value, ShardedTensor):
        return value.detach().clone()
    return summed(value.metadata().size, value)


def summed(size: torch.Size, value: ShardedTensor | None) -> Tensor:
    """`size` of float32 from shards; None where this process holds none."""
    whole = torch.zeros(size)
    for part in value.local_shards() if value is not None else ():
        _place(whole, part).copy_(part.tensor)
    dist.all_reduce(whole)
    return whole


def _place(whole: Tensor, part: Any) -> Tensor:
    """Where in the whole tensor a shard stands."""
    spans = zip(part.metadata.shard_offsets, part.metadata.shard_sizes, strict=True)
    return whole[tuple(slice(begin, begin + size) for begin, size in spans)]


def fill(name: str, value: Any, whole: Tensor) -> None:
    """Put a whole tensor into `value`, or into those of its shards that are here.

    Raises:
        ArtifactError: another shape.
    """
    is_sharded = isinstance(value, ShardedTensor)
    size = value.metadata().size if is_sharded else value.shape
    if tuple(size) != tuple(whole.shape):
        raise ArtifactError(
            f"a tensor of another shape: {name}", got=tuple(whole.shape), expected=tuple(size)
        )
    if not is_sharded:
        value.copy_(whole)
        return
    for part in value.local_shards():
        part.tensor.copy_(_place(whole, part))
