"""Settings of the two-tower model and of the index over its item vectors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from recomind.errors import ConfigError

_MORE_POSITIVE = (
    "learning_rate", "temperature", "nprobe", "max_nprobe", "build_threads", "recall_at",
)  # fmt: skip


class IndexKind(Enum):
    """How the nearest items are searched for; lower case, since Hydra matches the names in YAML."""

    auto = "auto"  # flat below `flat_below` items, IVF from there on
    flat = "flat"  # exact, cost grows with the number of items
    ivf = "ivf"  # inverted lists, approximate: `nprobe` of `num_lists` are read


@dataclass(kw_only=True, slots=True)
class RetrievalConfig:
    """Training of the towers and building of the index."""

    dim: int = 32  # D, length of the user and item vectors
    hidden: int = 64  # width of the one hidden layer of each tower
    categorical_dim: int = 8  # length of the embedding of a categorical feature
    history_length: int = 20  # latest events that the user tower looks at
    half_life: float = 5.0  # events after which the recency weight has halved
    num_epochs: int = 1  # passes over the positive rows
    batch_size: int = 1024  # positives a batch; the others of the batch are the negatives
    learning_rate: float = 3e-3  # of Adam
    temperature: float = 0.1  # cosines are divided by it before the softmax
    seed: int = 0  # of initial weights, order of rows, and sampled items
    kind: IndexKind = IndexKind.auto  # search structure
    flat_below: int = 50_000  # items from which `auto` takes IVF
    num_lists: int = 0  # inverted lists of IVF; 0 for 2 sqrt(N)
    nprobe: int = 16  # inverted lists read for a query, at least
    min_recall: float = 0.9  # recall@k that `nprobe` is doubled for, in [0, 1]; 0 leaves it
    max_nprobe: int = 1024  # inverted lists read for a query, at most
    build_threads: int = 1  # threads that add items; the index is the same on any number
    recall_at: int = 100  # k of the reported recall@k and hit_rate@k
    num_recall_queries: int = 256  # states on which they are measured; 0 to skip

    def __post_init__(self) -> None:
        positive = ("dim", "hidden", "categorical_dim", "history_length", "half_life", "batch_size")
        for name in (*positive, *_MORE_POSITIVE):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is not positive", got=getattr(self, name))
        for name in ("num_epochs", "flat_below", "num_lists", "num_recall_queries"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is negative", got=getattr(self, name), expected=">= 0")
        if not 0.0 <= self.min_recall <= 1.0:
            raise ConfigError(
                "min_recall is no share", got=self.min_recall, expected="0 <= min_recall <= 1"
            )
        if self.batch_size < 2:
            raise ConfigError(
                "a batch of one has no negatives", got=self.batch_size, expected="batch_size >= 2"
            )
