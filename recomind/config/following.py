"""Settings that follow the log's own tasks, where they are left as they were."""

from __future__ import annotations

from collections.abc import Mapping

from recomind.config.schema import RecomindConfig
from recomind.data import LogSource, WindowedLogs, collected_logs, make_source, reads_logs
from recomind.errors import ConfigError, did_you_mean
from recomind.evaluation.config import RANKER, SERVED, GateConfig
from recomind.ranker import RankerConfig


def follow_logs(config: RecomindConfig) -> None:
    """Settings of the logs are checked before any stage begins, and the rest follows them."""
    _check_continued(config)
    if reads_logs(config.data):
        source = make_source(config.data, config.allowed_targets)
        if config.rounds > 1 and not isinstance(source, WindowedLogs):
            raise ConfigError(
                "rounds of fresh logs need a world to collect from, or served logs that go on",
                got=f"rounds={config.rounds}, data.source={config.data.get('source')}",
                expected="rounds=1",
                mend="data=served takes the next window of a service's log each round",
            )
        _follow_logs(config, source)
    else:
        collected_logs(config.data)
        weights = config.ranker.utility_weights
        config.ranker.utility_weights = config.utility or config.reward or weights
        config.simulation.reward_weights = _other_than_utility(config, config.reward or weights)


def _check_continued(config: RecomindConfig) -> None:
    """What continues a run reads what was served since, by default from its own export."""
    if not config.continue_from:
        return
    if config.data.get("source") != "served" or config.world:
        raise ConfigError(
            "continue_from goes on from a run with what was served since",
            got=f"data.source={config.data.get('source', 'world')}"
            + (", and a world" if config.world else ""),
            expected="data=served, without a world",
            mend="rounds in a world go on in the same folder, with rounds=...",
        )
    config.data["scorer"] = config.data.get("scorer") or f"{config.continue_from}/export"


def reward_weights(config: RecomindConfig) -> Mapping[str, float]:
    """Task -> weight: what a session is worth."""
    return config.simulation.reward_weights or config.ranker.utility_weights


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
    if isinstance(source, WindowedLogs) and config.evaluation.baseline_arm == RANKER:
        config.evaluation.baseline_arm = SERVED
    gate, first = GateConfig(), next(iter(reward))
    if config.gate.target_metric == gate.target_metric and "watch_10s" not in tasks:
        config.gate.target_metric = f"{first}_per_session"
    if config.gate.must_not_rise == gate.must_not_rise and "hide" not in tasks:
        config.gate.must_not_rise = [f"{task}_per_session" for task in source.guarded]
