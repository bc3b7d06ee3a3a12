"""The whole configuration: every room owns its `Config`, and this file puts them side by side."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from recomind.candidates import CandidatesConfig
from recomind.data import reads_logs
from recomind.device_settings import check_device_name
from recomind.errors import ConfigError
from recomind.evaluation.backtest.config import BacktestConfig
from recomind.evaluation.config import EvaluationConfig, GateConfig
from recomind.export import ExportConfig
from recomind.policy import PolicyConfig
from recomind.ranker import RankerConfig
from recomind.retrieval import DistilConfig, RetrievalConfig
from recomind.serving import ServingConfig
from recomind.simulation import SimulatorConfig
from recomind.training.config import TrainingConfig


@dataclass(kw_only=True)
class CollectConfig:
    """What is logged in a world before, and between, trainings."""

    num_sessions: int = 8000  # logged in the first round, by the world's logging policy
    fresh_sessions: int = 8000  # logged in a later round, by the policy before
    explore_more: float = 0.3  # exploration rate in half of a later round's sessions
    explore_less: float = 0.1  # exploration rate in the other half
    subset_size: int = 2  # candidates of an exploring decision; many would log only the best
    max_catalogue_items: int = 5_000_000  # a larger catalogue is not copied into the artifact

    def __post_init__(self) -> None:
        for name in ("num_sessions", "fresh_sessions", "subset_size", "max_catalogue_items"):
            if getattr(self, name) < 1:
                raise ConfigError(f"collect.{name}", got=getattr(self, name), expected=">= 1")
        for name in ("explore_more", "explore_less"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"collect.{name}", got=getattr(self, name), expected="in [0, 1]")


class KeepRound(enum.Enum):
    """Which round's policy a run ends with; lower case for Hydra."""

    best = "best"  # judged in the world, on sessions of its own
    last = "last"  # without a judgement


@dataclass(kw_only=True)
class RecomindConfig:
    """Everything a stage may ask for; a run is this, its seed and its inputs."""

    name: str = "run"  # what the run and its folder below `runs/` are called
    output: str = "runs/${name}"  # folder of the run
    seed: int = 0  # all randomness follows from it
    device: str = "cpu"  # trains ranker, towers and learners: auto, cpu, cuda or cuda:N
    rounds: int = 1  # times collect -> refit -> retrain; above 1: in a world, or data=served
    # Folder of a finished run whose rounds come before this one's; with data=served
    continue_from: str = ""
    keep: KeepRound = KeepRound.best  # which round's policy is evaluated and exported
    round: int = 0  # the round that a stage run alone works on
    world: dict[str, Any] = field(default_factory=dict)  # `_target_` and arguments; {} for none
    allowed_targets: list[str] = field(default_factory=list)  # further prefixes of `_target_`
    ab: str = ""  # `evaluate`: CSV of a real A/B test, arm,value, to hold the forecasts against
    exit_unreleased: int = 3  # exit status of `run` and `evaluate` when the gate stays shut
    curve_sessions: int = 300  # sessions per point of the learning curve in the world
    data: dict[str, Any] = field(default_factory=dict)  # `source` and its settings
    # Weights of tasks and amounts: what a session is worth. In place of
    # `ranker.utility_weights`, never merged with it
    reward: dict[str, float] = field(default_factory=dict)
    utility: dict[str, float] = field(default_factory=dict)  # what the ranker ranks by; as `reward`
    collect: CollectConfig = field(default_factory=CollectConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    candidates: CandidatesConfig = field(default_factory=CandidatesConfig)
    simulation: SimulatorConfig = field(default_factory=SimulatorConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    distil: DistilConfig = field(default_factory=DistilConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    backtest: BacktestConfig = field(default_factory=BacktestConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)

    def __post_init__(self) -> None:
        for name in ("name", "output"):
            if not getattr(self, name).strip():
                raise ConfigError(f"{name} is empty", mend=f"give {name}=..., or leave it out")
        check_device_name(self.device)
        if self.rounds < 1 or self.round < 0:
            raise ConfigError(
                "rounds", got=f"rounds={self.rounds}, round={self.round}", expected=">= 1, >= 0"
            )
        if not reads_logs(self.data) and not self.world:
            raise ConfigError(
                "data.source=world without a world",
                mend="choose one, such as world=fatigue, or data=table for logs of your own",
            )
        if self.training.support_ratio != self.policy.support_ratio:
            raise ConfigError(
                "training and policy act under different support constraints",
                got=(self.training.support_ratio, self.policy.support_ratio),
                mend="set policy.support_ratio; training follows it",
            )
        self.export.check_ranker(self.ranker.external.kind.value)
        num_candidates = self.candidates.num_candidates
        for name in ("subset_size", "target_subset_size"):
            if getattr(self.training, name) > num_candidates:
                raise ConfigError(
                    f"training.{name}",
                    got=getattr(self.training, name),
                    expected=f"<= candidates.num_candidates, {num_candidates}",
                    mend=f"lower training.{name}, or raise candidates.num_candidates",
                )


GROUPS: dict[str, type] = {
    "collect": CollectConfig,
    "ranker": RankerConfig,
    "retrieval": RetrievalConfig,
    "candidates": CandidatesConfig,
    "simulation": SimulatorConfig,
    "policy": PolicyConfig,
    "training": TrainingConfig,
    "distil": DistilConfig,
    "evaluation": EvaluationConfig,
    "gate": GateConfig,
    "backtest": BacktestConfig,
    "export": ExportConfig,
    "serving": ServingConfig,
}
