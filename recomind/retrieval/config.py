"""Settings of the two-tower model, of the index over its item vectors, and of distilled queries."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from recomind.errors import ConfigError

_MORE_POSITIVE = (
    "learning_rate",
    "temperature",
    "nprobe",
    "max_nprobe",
    "build_threads",
    "recall_at",
    "horizon_days",
    "num_queries",
)
_NOT_NEGATIVE = ("num_epochs", "flat_below", "num_lists", "num_recall_queries", "num_sampled")


class IndexKind(Enum):
    """How nearest items are searched; lower case, since Hydra matches the names in YAML."""

    auto = "auto"  # flat below `flat_below` items, otherwise IVF
    flat = "flat"  # exact, cost grows with the number of items
    ivf = "ivf"  # inverted lists, approximate: `nprobe` of `num_lists` are read


class LossKind(Enum):
    """The targets of a state; lower case, since Hydra matches the names in YAML."""

    next = "next"  # the next response, where it is positive
    all_action = "all_action"  # every positive response of the next `horizon_days`


@dataclass(kw_only=True, slots=True)
class RetrievalConfig:
    """Training of the towers and building of the index."""

    dim: int = 32  # D, length of the user and item vectors
    hidden: int = 64  # width of the one hidden layer of each tower
    categorical_dim: int = 8  # length of the embedding of a categorical feature
    history_length: int = 20  # latest events that the user tower sees
    half_life: float = 5.0  # events after which the recency weight has halved
    num_epochs: int = 1  # passes over the positive rows
    batch_size: int = 1024  # positives in a batch; for each, the others are negatives
    learning_rate: float = 3e-3  # for Adam
    loss: LossKind = LossKind.next  # the targets of a state
    horizon_days: float = 7.0  # days after a state whose positives `all_action` learns from
    num_sampled: int = 0  # uniform draws per batch, as further negatives
    num_queries: int = 1  # query vectors per state: its own and, from 3 on, one for each interest
    temperature: float = 0.1  # cosines are divided by it before the softmax
    seed: int = 0  # for initial weights, order of rows, and sampled items
    kind: IndexKind = IndexKind.auto  # search structure
    flat_below: int = 50_000  # number of items from which `auto` uses IVF
    num_lists: int = 0  # inverted lists of IVF; 0 for 2 sqrt(N)
    nprobe: int = 16  # inverted lists read for a query, at least
    min_recall: float = 0.9  # `nprobe` is doubled until recall@k reaches this; 0 keeps it
    max_nprobe: int = 1024  # inverted lists read for a query, at most
    build_threads: int = 1  # threads that add items; the index does not depend on it
    recall_at: int = 100  # k of the reported recall@k and hit_rate@k
    num_recall_queries: int = 256  # states on which they are measured; 0 to skip

    def __post_init__(self) -> None:
        positive = ("dim", "hidden", "categorical_dim", "history_length", "half_life", "batch_size")
        for name in (*positive, *_MORE_POSITIVE):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is not positive", got=getattr(self, name))
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is negative", got=getattr(self, name), expected=">= 0")
        if not 0.0 <= self.min_recall <= 1.0:
            raise ConfigError(
                "min_recall is not a share", got=self.min_recall, expected="0 <= min_recall <= 1"
            )
        if self.num_queries == 2:
            raise ConfigError(
                "a single interest is the whole history, which the state's own query covers",
                got="num_queries=2",
                expected="1, or at least 3",
            )
        if self.batch_size < 2:
            raise ConfigError(
                "a batch of one has no negatives", got=self.batch_size, expected="batch_size >= 2"
            )


@dataclass(kw_only=True, slots=True)
class DistilConfig:
    """Distilling a query from the values of the trained policy."""

    num_states: int = 0  # logged states to learn from; 0 keeps the towers' own query
    num_nearest: int = 64  # items nearest to the towers' query in a state's pool
    num_uniform: int = 192  # items drawn from the whole catalogue in a state's pool
    hidden: int = 128  # width of the one hidden layer
    num_epochs: int = 8  # passes over the states
    batch_size: int = 256  # states in a batch
    learning_rate: float = 1e-2  # for Adam
    temperature: float = 0.1  # for the values, in standard deviations over a state's pool
    recall_at: int = 32  # k of the reported value_recall@k
    num_recall_states: int = 256  # states on which it is measured; 0 to skip
    max_recall_items: int = 20_000  # items it is measured among; a sample if there are more

    def __post_init__(self) -> None:
        for name in ("hidden", "batch_size", "learning_rate", "temperature", "recall_at"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"distil.{name}", got=getattr(self, name), expected="> 0")
        for name in ("num_states", "num_nearest", "num_uniform", "num_epochs", "num_recall_states"):
            if getattr(self, name) < 0:
                raise ConfigError(f"distil.{name}", got=getattr(self, name), expected=">= 0")
        if self.num_nearest + self.num_uniform < 2:
            raise ConfigError(
                "a pool of one has no order",
                got=f"distil.num_nearest={self.num_nearest} + num_uniform={self.num_uniform}",
                expected=">= 2",
            )
        if self.max_recall_items < self.recall_at:
            raise ConfigError(
                "distil.max_recall_items", got=self.max_recall_items, expected=">= distil.recall_at"
            )
