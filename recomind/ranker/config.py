"""Settings of the ranker."""

from __future__ import annotations

from dataclasses import dataclass, field

from recomind.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class RankerConfig:
    """The supervised multi-task ranker and its ensemble."""

    utility_weights: dict[str, float] = field(default_factory=lambda: {"watch_10s": 1.0})
    # task -> weight; utility and reward are this sum, of probabilities and of feedback
    num_members: int = 2  # ensemble size; the first member is "the ranker"
    history_length: int = 40  # L, events of a state
    dim: int = 32  # width of item and event vectors
    hidden: int = 64  # width of the scoring network
    id_buckets: int = 16384  # rows of the id embedding; ids are hashed into it
    id_dropout: float = 0.3  # share of ids hidden in training, so that a new item scores well
    dropout: float = 0.1  # on hidden layers
    learning_rate: float = 5e-3  # peak of a one-cycle schedule
    weight_decay: float = 1e-3  # decoupled, dense parameters only
    batch_size: int = 512  # impressions
    num_epochs: int = 3  # at most; the best by log-loss on the calibration split is kept
    refit_epochs: int = 2  # when warm-started from the previous round
    max_table_items: int = 5_000_000  # item vectors are precomputed up to this many items

    def __post_init__(self) -> None:
        for name in ("num_members", "history_length", "dim", "hidden", "id_buckets", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ranker.{name}", got=getattr(self, name), expected=">= 1")
        for name in ("num_epochs", "refit_epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ranker.{name}", got=getattr(self, name), expected=">= 1")
        for name in ("id_dropout", "dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"ranker.{name}", got=getattr(self, name), expected="in [0, 1)")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ConfigError(
                "ranker learning rate must be positive and weight decay not negative",
                got=(self.learning_rate, self.weight_decay),
            )
