"""Settings of the ranker."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from recomind.adapters import ExternalConfig as ExternalConfig
from recomind.adapters import ExternalKind as ExternalKind
from recomind.adapters import OutputKind as OutputKind
from recomind.device_settings import MatmulPrecision
from recomind.errors import ConfigError


class RefitOn(Enum):
    """The logs that a later round's ranker is fitted to, from fresh weights but for one."""

    own = "own"  # those that policies of this run collected, without the first logging policy's
    all = "all"  # those of all rounds
    auto = "auto"  # own, all, or all from the last weights: the best on held-out fresh sessions


_AT_LEAST = dict.fromkeys(
    (
        "num_members",
        "history_length",
        "recent_length",
        "num_heads",
        "dim",
        "hidden",
        "id_dim",
        "num_bins",
        "id_buckets",
        "batch_size",
        "epoch_updates",
        "run_length",
        "num_epochs",
        "checks_per_epoch",
        "patience",
        "max_block_events",
    ),
    1,
) | dict.fromkeys(("num_nearest", "num_layers", "max_table_items"), 0)


@dataclass(kw_only=True, slots=True)
class RankerConfig:
    """The supervised multi-task ranker and its ensemble."""

    utility_weights: dict[str, float] = field(default_factory=lambda: {"watch_10s": 1.0})
    # task -> weight; utility and reward are this sum, of probabilities and of feedback
    num_members: int = 2  # ensemble size; the first member is "the ranker"
    external: ExternalConfig = field(default_factory=ExternalConfig)
    # Folder of a ranker whose weights the first round's begins with, such as export/ranker of
    # another run; empty: fresh weights.
    start_from: str = ""
    history_length: int = 40  # L, events of a state
    recent_length: int = 64  # the latest events, which the causal transformer reads
    num_nearest: int = 32  # older events a candidate attends to, the nearest ones
    num_layers: int = 0  # in the causal transformer over the recent events
    num_heads: int = 2  # in its attention
    dim: int = 32  # width of item and event vectors
    hidden: int = 64  # width of the scoring network
    id_dim: int = 8  # width of an embedding row
    num_bins: int = 12  # in the piecewise linear encoding of a number
    id_buckets: int = 16384  # rows of the id embedding
    hash_ids: bool = True  # hash ids into the rows; without it an id is its row
    id_scale: float = 0.01  # standard deviation of fresh embedding rows
    id_dropout: float = 0.3  # share of ids hidden in training, so that a new item scores well
    dropout: float = 0.1  # on hidden layers
    next_action_weight: float = 0.0  # weight of the Next Action Loss beside the tasks' own
    learning_rate: float = 5e-3  # peak of a one-cycle schedule
    wide_rate: float = 1.0  # learning rate of the wide parts, in multiples of the others'
    average_rate: float = 0.0  # at which a running average of the weights is kept; 0 for none.
    # An average is never longer than a tenth of the training.
    weight_decay: float = 1e-3  # decoupled, dense parameters only
    batch_size: int = 512  # impressions
    epoch_updates: int = 1  # at least this many in an epoch: smaller batches where the log is short
    run_length: int = 8  # latest impressions of a user that a batch holds together and encodes once
    session_batches: bool = False  # batches of whole sessions, whose events are encoded once
    num_epochs: int = 3  # at most; the best by log-loss on the calibration split is kept
    checks_per_epoch: int = 2  # evaluations on the calibration split; the best one is kept
    patience: int = 6  # evaluations without a gain after which training stops
    refit_on: RefitOn = RefitOn.own  # the rounds that a later round's ranker learns from
    # Matrix products in training on a CUDA device; on a processor only "full".
    precision: MatmulPrecision = MatmulPrecision.full
    max_block_events: int = 250_000  # events of the log in memory at once
    max_table_items: int = 5_000_000  # item vectors are precomputed up to this many items

    def __post_init__(self) -> None:
        for name, least in _AT_LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"ranker.{name}", got=getattr(self, name), expected=f">= {least}")
        for name in ("id_dropout", "dropout", "average_rate"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"ranker.{name}", got=getattr(self, name), expected="in [0, 1)")
        if self.id_scale <= 0:
            raise ConfigError("ranker.id_scale must be positive", got=self.id_scale)
        if (
            min(self.learning_rate, self.wide_rate) <= 0
            or self.weight_decay < 0
            or self.next_action_weight < 0
        ):
            raise ConfigError(
                "ranker learning rates must be positive, weight decay and next action weight not "
                "negative",
                got=(self.learning_rate, self.weight_decay, self.next_action_weight),
            )
        if self.dim % self.num_heads:
            raise ConfigError(
                "ranker.dim does not divide into heads",
                got=f"dim={self.dim}, num_heads={self.num_heads}",
            )
        if self.external.kind is not ExternalKind.none and self.num_members < 2:
            raise ConfigError(
                "an external ranker needs members of ours beside it",
                got=f"ranker.num_members={self.num_members}",
                expected=">= 2: the second is the trunk of the residual and another opinion",
            )
