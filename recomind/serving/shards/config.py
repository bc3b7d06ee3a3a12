"""Settings of an index in shards."""

from __future__ import annotations

from dataclasses import dataclass

from recomind.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class ShardsConfig:
    """How long a search waits for its shards, and what each shard may use."""

    nprobe: int = 16  # inverted lists read for a query in each shard
    timeout_s: float = 0.5  # after it a search is served from the shards that have answered
    allow_partial: bool = True  # False: a search that misses a shard is an error
    num_replicas: int = 1  # processes that hold the same shard and take turns
    hedge_after_s: float = 0.0  # then a late shard's next replica is asked too; 0 for never
    num_cpus: float = 1.0  # reserved for each process
    max_restarts: int = -1  # restarts of a process that died; -1 for ever
    start_timeout_s: float = 120.0  # until every process has its shard open

    def __post_init__(self) -> None:
        for name in ("timeout_s", "num_cpus", "start_timeout_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is not positive", got=getattr(self, name))
        for name in ("nprobe", "num_replicas"):
            if getattr(self, name) < 1:
                raise ConfigError(name, got=getattr(self, name), expected=">= 1")
        if self.max_restarts < -1:
            raise ConfigError("max_restarts", got=self.max_restarts, expected=">= -1")
        if not 0.0 <= self.hedge_after_s < self.timeout_s:
            raise ConfigError(
                "hedge_after_s", got=self.hedge_after_s, expected="0 <= hedge_after_s < timeout_s"
            )
        if self.hedge_after_s and self.num_replicas < 2:
            raise ConfigError(
                "hedge_after_s without a second replica",
                got=f"num_replicas={self.num_replicas}",
                mend="raise num_replicas, or set hedge_after_s=0",
            )
