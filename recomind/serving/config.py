"""Settings of the service."""

from __future__ import annotations

from dataclasses import dataclass, field

from recomind.candidates import ExplorationConfig, ExplorationKind
from recomind.errors import ConfigError


def _greedy() -> ExplorationConfig:
    return ExplorationConfig(epsilon=0.0)


@dataclass(kw_only=True, slots=True)
class ServingConfig:
    """Where the service listens, what it accepts, and how long it takes over it."""

    host: str = "127.0.0.1"  # address to bind; it has no login, so no other without a proxy
    port: int = 8000  # TCP
    key_file: str = ""  # a secret: `export` signs with it, and nothing unsigned is served; "": none
    allow_unreleased: bool = False  # serve a scorer that the release gate did not let pass
    max_candidates: int = 1000  # item ids of one request
    max_batch_size: int = 64  # requests of one body, and rows that are scored together
    max_body_bytes: int = 4_194_304  # a longer body is refused unread
    num_replicas: int = 1  # processes that score, each with the whole scorer in memory
    num_threads: int = 1  # threads of each replica
    max_queued_requests: int = 512  # read and not yet answered; beyond it the answer is 503
    body_timeout_s: float = 5.0  # for a head or a body to arrive, however it trickles
    request_timeout_s: float = 5.0  # from a body's last byte to the answer
    keep_alive_s: float = 75.0  # an idle connection is closed after it; more than the gateway's
    drain_timeout_s: float = 20.0  # after SIGTERM, for what is in flight
    start_timeout_s: float = 300.0  # for a replica to load its scorer on a machine that is busy
    num_golden_requests: int = 100  # answered by each replica before it is ready
    fall_back: bool = True  # answer by the ranker where the policy fails, or is late
    policy_timeout_s: float = 0.0  # the policy is late after it, for a batch; 0: it is never late
    control_share: float = 0.0  # share of users who always get the ranker: the A of an A/B test
    # How /recommend explores, inside the support, with its exact propensity; epsilon 0: not at all
    exploration: ExplorationConfig = field(default_factory=_greedy)
    decision_log: str = ""  # folder that keeps every decision of /recommend; "" keeps none
    decision_part_rows: int = 100_000  # a Parquet part is closed after so many decisions
    decision_part_s: float = 3600.0  # or after so many seconds
    shadow_folder: str = ""  # an exported scorer that is asked and not heard; "": none
    shadow_log: str = ""  # folder that keeps what it would have shown
    registry: str = ""  # folder whose `current` is served, and followed; "": the run's own export
    registry_poll_s: float = 2.0  # between looks at it
    admin_token_file: str = ""  # holds the bearer token of POST /admin/load; "" turns it off

    def __post_init__(self) -> None:
        if not self.host:
            raise ConfigError("serving.host is empty", expected="an address, such as 127.0.0.1")
        if not 1 <= self.port <= 65_535:
            raise ConfigError("serving.port", got=self.port, expected="in [1, 65535]")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ConfigError(f"serving.{name}", got=getattr(self, name), expected=">= 1")
        if self.exploration.kind is ExplorationKind.ensemble:
            raise ConfigError(
                "serving.exploration",
                got="ensemble",
                expected="subset, uniform or softmax: a scorer carries one ranker",
            )
        if bool(self.shadow_folder) != bool(self.shadow_log):
            raise ConfigError(
                "serving.shadow_folder and serving.shadow_log belong together",
                got=f"{self.shadow_folder!r} and {self.shadow_log!r}",
            )
        if not 0.0 <= self.control_share <= 1.0:
            raise ConfigError("serving.control_share", got=self.control_share, expected="in [0, 1]")
        for name in _TIMES:
            if not 0.0 < getattr(self, name) <= _DAY_S:
                raise ConfigError(
                    f"serving.{name}", got=getattr(self, name), expected="seconds, at most a day"
                )
        if not 0.0 <= self.policy_timeout_s < self.request_timeout_s:
            raise ConfigError(
                "serving.policy_timeout_s",
                got=self.policy_timeout_s,
                expected="0, or less than serving.request_timeout_s, so that the ranker has time",
            )


_DAY_S = 86_400.0
_COUNTS = (
    "max_candidates",
    "max_batch_size",
    "max_body_bytes",
    "num_replicas",
    "num_threads",
    "max_queued_requests",
    "num_golden_requests",
    "decision_part_rows",
)
_TIMES = (
    "body_timeout_s",
    "request_timeout_s",
    "keep_alive_s",
    "drain_timeout_s",
    "start_timeout_s",
    "decision_part_s",
    "registry_poll_s",
)
