"""Settings of the service."""

from __future__ import annotations

from dataclasses import dataclass

from recomind.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class ServingConfig:
    """Where the service listens, what it accepts, and what it may use."""

    host: str = "127.0.0.1"  # address to bind; it has no login, so no other without a proxy
    port: int = 8000  # TCP
    key_file: str = ""  # a secret: `export` signs with it, and nothing unsigned is served; "": none
    allow_unreleased: bool = False  # serve a scorer that the release gate did not let pass
    max_candidates: int = 1000  # item ids of one request
    max_batch_size: int = 64  # requests of one body
    max_body_bytes: int = 4_194_304  # a longer body is refused unread
    num_replicas: int = 1  # processes, each with the whole scorer in memory
    num_cpus: float = 1.0  # reserved for each replica
    max_ongoing_requests: int = 8  # of one replica; further bodies wait in a queue
    max_queued_requests: int = 128  # of the whole service; beyond it the answer is 503
    num_golden_requests: int = 100  # answered by each replica before it is ready

    def __post_init__(self) -> None:
        if not self.host:
            raise ConfigError("serving.host is empty", expected="an address, such as 127.0.0.1")
        if not 1 <= self.port <= 65_535:
            raise ConfigError("serving.port", got=self.port, expected="in [1, 65535]")
        for name in (
            "max_candidates",
            "max_batch_size",
            "max_body_bytes",
            "num_replicas",
            "max_ongoing_requests",
            "max_queued_requests",
            "num_golden_requests",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"serving.{name}", got=getattr(self, name), expected=">= 1")
        if self.num_cpus <= 0:
            raise ConfigError("serving.num_cpus", got=self.num_cpus, expected="> 0")
