"""The whole configuration, registered with Hydra.

Every room owns its `Config`; this file puts them side by side. YAML in `conf/` only picks values.
Beyond the command line nobody sees a DictConfig: `resolve` turns it into these dataclasses once.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

import recomind
from recomind import plugins
from recomind.aliases import take_old_names, with_old_names
from recomind.candidates import CandidatesConfig
from recomind.data import LogSource, collected_logs, make_source, reads_logs
from recomind.errors import ConfigError, RecomindError, did_you_mean
from recomind.evaluation.config import EvaluationConfig, GateConfig
from recomind.export import ExportConfig
from recomind.folders import register_folders
from recomind.policy import PolicyConfig
from recomind.ranker import RankerConfig
from recomind.retrieval import DistilConfig, RetrievalConfig
from recomind.serving import ServingConfig
from recomind.simulation import SimulatorConfig
from recomind.training.config import TrainingConfig

if TYPE_CHECKING:
    from recomind.simulation import World

STAGES = (
    "collect-logs",
    "prepare-data",
    "train-ranker",
    "build-index",
    "fit-simulator",
    "train-policy",
    "distil-queries",
    "evaluate",
    "export",
    "run",
    "serve",
    "check-ranker",
    "check-world",
    "describe-data",
)


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
    rounds: int = 1  # times collect -> refit -> retrain; above 1 needs a world
    keep: KeepRound = KeepRound.best  # which round's policy is evaluated and exported
    round: int = 0  # the round that a stage run alone works on
    world: dict[str, Any] = field(default_factory=dict)  # `_target_` and arguments; {} for none
    allowed_targets: list[str] = field(default_factory=list)  # further prefixes of `_target_`
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
    export: ExportConfig = field(default_factory=ExportConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)

    def __post_init__(self) -> None:
        for name in ("name", "output"):
            if not getattr(self, name).strip():
                raise ConfigError(f"{name} is empty", mend=f"give {name}=..., or leave it out")
        if self.rounds < 1 or self.round < 0:
            raise ConfigError(
                "rounds", got=f"rounds={self.rounds}, round={self.round}", expected=">= 1, >= 0"
            )
        if not reads_logs(self.data) and not self.world:
            raise ConfigError(
                "data.source=world without a world",
                mend="choose one, such as world=fatigue, or data=table for logs of your own",
            )
        if reads_logs(self.data) and self.rounds > 1:
            raise ConfigError(
                "rounds of fresh logs need a world to collect from",
                got=f"rounds={self.rounds}, data.source={self.data.get('source')}",
                expected="rounds=1",
            )
        if self.training.support_ratio != self.policy.support_ratio:
            raise ConfigError(
                "training and policy act under different support constraints",
                got=(self.training.support_ratio, self.policy.support_ratio),
                mend="set policy.support_ratio; training follows it",
            )
        num_candidates = self.candidates.num_candidates
        for name in ("subset_size", "target_subset_size"):
            if getattr(self.training, name) > num_candidates:
                raise ConfigError(
                    f"training.{name}",
                    got=getattr(self.training, name),
                    expected=f"<= candidates.num_candidates, {num_candidates}",
                    mend=f"lower training.{name}, or raise candidates.num_candidates",
                )


_LARGEST_COUNT, _LARGEST_SEED = 2**31 - 1, 2**63 - 1

_GROUPS: dict[str, type] = {
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
    "export": ExportConfig,
    "serving": ServingConfig,
}


def conf_dir() -> Path:
    """The folder of YAML configs: inside the installed package, else beside the checkout's."""
    package = Path(recomind.__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if folder.is_dir():
            return folder
    raise ConfigError("the configuration folder is absent", got=package / "conf")


def register() -> None:
    """Register the schema and the resolvers of `conf/base.yaml` with Hydra; may be called again."""
    ConfigStore.instance().store(name="recomind_schema", node=with_old_names(RecomindConfig))
    register_folders()


register_folders()  # a launcher's worker imports this module, and calls nothing in it


def resolve(config: DictConfig) -> RecomindConfig:
    """The dataclasses behind a composed config, validated.

    Raises:
        ConfigError: a value that is missing or out of range.
    """
    take_old_names(config)
    _refuse_unknown(config, RecomindConfig)
    for group, schema in _GROUPS.items():
        if config[group] is None:
            raise ConfigError(f"{group} is null", mend=f"leave {group}=... out for its defaults")
        _refuse_unknown(config[group], schema, f"{group}.")
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(
            "settings without a value", got=missing, mend=f"give them, such as {missing[0]}=..."
        )
    resolved = OmegaConf.to_object(config)
    if not isinstance(resolved, RecomindConfig):
        raise ConfigError("not a recomind config", got=type(resolved).__name__)
    _check_data(resolved)
    _require_sizes(resolved)
    variables = _variables(config)
    return _marked(resolved, variables) if variables else resolved


def _require_sizes(config: Any, prefix: str = "") -> None:
    """Numbers that no array can be made of, and no generator seeded with, are refused by name."""
    for name in (f.name for f in dataclasses.fields(config)):
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            _require_sizes(value, f"{prefix}{name}.")
        bound = _LARGEST_SEED if name.endswith("seed") else _LARGEST_COUNT
        if isinstance(value, int) and not -bound <= value <= bound:
            raise ConfigError(f"{prefix}{name}", got=value, expected=f"at most {bound:,}")


class FromEnvironment(str):
    """A text that holds what `${oc.env:...}` stood for; `plain` writes the reference down."""

    reference: str

    def __new__(cls, text: str, reference: str = "") -> FromEnvironment:
        """The text itself, which remembers what it was read from."""
        made = super().__new__(cls, text)
        made.reference = reference
        return made


def _variables(config: DictConfig) -> dict[str, str]:
    """What the config takes from the environment, and how it refers to it; no secret is short."""
    names = re.findall(r"\boc\.env:\s*(\w+)", OmegaConf.to_yaml(config, resolve=False))
    values = {os.environ.get(name, ""): f"${{oc.env:{name}}}" for name in names}
    return {value: reference for value, reference in values.items() if len(value) >= 4}


def _marked(value: Any, variables: dict[str, str]) -> Any:
    """`value`, with every text that holds a variable's made `FromEnvironment`."""
    if dataclasses.is_dataclass(value):
        for f in dataclasses.fields(value):
            setattr(value, f.name, _marked(getattr(value, f.name), variables))
    elif isinstance(value, dict):
        return {key: _marked(v, variables) for key, v in value.items()}
    elif isinstance(value, list):
        return [_marked(v, variables) for v in value]
    elif isinstance(value, str):
        reference = value
        for text, name in variables.items():
            reference = reference.replace(text, name)
        return value if reference == value else FromEnvironment(value, reference)
    return value


def _check_data(config: RecomindConfig) -> None:
    """Settings of the logs are checked before any stage begins, and the rest follows them."""
    if reads_logs(config.data):
        _follow_logs(config, make_source(config.data, config.allowed_targets))
    else:
        collected_logs(config.data)
        weights = config.ranker.utility_weights
        config.ranker.utility_weights = config.utility or config.reward or weights
        config.simulation.reward_weights = _other_than_utility(config, config.reward or weights)


def _other_than_utility(config: RecomindConfig, reward: Mapping[str, float]) -> dict[str, float]:
    """The reward's weights where they are not those of the ranker's utility; {} where they are."""
    return {} if reward == config.ranker.utility_weights else dict(reward)


def _follow_logs(config: RecomindConfig, source: LogSource) -> None:
    """Weights and gate speak of the log's own tasks, where they are left as they were.

    Raises:
        ConfigError: a weight of something that the log does not have.
    """
    tasks = tuple(source.tasks)
    usual = RankerConfig().utility_weights
    chosen = {
        task: weight
        for task, weight in config.ranker.utility_weights.items()
        if task in tasks or usual.get(task) != weight
    }
    reward = source.utility(config.reward or chosen)
    utility = source.utility(config.utility) if config.utility else reward
    for name, weights in (("reward", reward), ("utility", utility)):
        for task in weights:
            if task not in tasks:
                raise ConfigError(
                    f"the {name} weighs a task that the log does not have: {task!r}",
                    mend=did_you_mean(task, tasks),
                )
    config.ranker.utility_weights = utility
    config.simulation.reward_weights = _other_than_utility(config, reward)
    config.policy.support_density = config.policy.support_density or source.support_density
    gate, first = GateConfig(), next(iter(reward))
    if config.gate.target_metric == gate.target_metric and "watch_10s" not in tasks:
        config.gate.target_metric = f"{first}_per_session"
    if config.gate.must_not_rise == gate.must_not_rise and "hide" not in tasks:
        config.gate.must_not_rise = [f"{task}_per_session" for task in source.guarded]


def _refuse_unknown(config: DictConfig, schema: type, prefix: str = "") -> None:
    """Hydra lets `+name=...` through, and a dataclass without slots takes it without a word."""
    known = [f.name for f in dataclasses.fields(schema)]
    for name in map(str, config):
        if name not in known:
            raise ConfigError(f"unknown setting {prefix + name!r}: {did_you_mean(name, known)}")


def reward_weights(config: RecomindConfig) -> Mapping[str, float]:
    """Task -> weight: what a session is worth."""
    return config.simulation.reward_weights or config.ranker.utility_weights


def make_world(config: RecomindConfig) -> World | None:
    """The world that `config.world` names, or None.

    Raises:
        ConfigError: a `_target_` outside the allowed prefixes, or one that is no environment.
    """
    if not config.world:
        return None
    arguments = dict(config.world)
    target = str(arguments.pop("_target_", ""))
    cls = _world_class(target, config.allowed_targets)
    known = inspect.signature(cls.__init__).parameters
    for name in arguments:
        if name not in known:
            raise ConfigError(
                "unknown setting of the world",
                got=name,
                mend=did_you_mean(name, [k for k in known if k != "self"]),
            )
    try:
        return cls(**arguments, reward_weights=dict(reward_weights(config)))
    except (RecomindError, OSError, MemoryError):
        raise
    except Exception as error:
        raise plugins.users_error(f"{target} cannot be made", error) from error


def _world_class(target: str, allowed: list[str]) -> type[World]:
    """The class that a dotted path names; checked on the resolved object, not on the string."""
    from recomind.simulation import World  # with torch, which a config can be read without

    found = plugins.resolve(target, setting="world._target_", also=allowed)
    if not (isinstance(found, type) and issubclass(found, World)):
        raise ConfigError(
            "world._target_ is no world",
            got=target,
            expected="a subclass of recomind.simulation.World",
        )
    return found


def plain(value: Any) -> Any:
    """Dataclasses and enums as JSON-able values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, FromEnvironment):
        return value.reference
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


__all__ = [
    "STAGES",
    "CollectConfig",
    "KeepRound",
    "RecomindConfig",
    "conf_dir",
    "make_world",
    "plain",
    "register",
    "resolve",
    "reward_weights",
]
