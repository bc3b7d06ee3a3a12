"""Settings that follow the log's own tasks, where they are left as they were."""

from __future__ import annotations

from recomind.config.schema import RecomindConfig
from recomind.data import LogSource, WindowedLogs, collected_logs, make_source, reads_logs
from recomind.errors import ConfigError, did_you_mean
from recomind.evaluation.config import GateConfig
from recomind.ranker import RankerConfig


def follow_logs(config: RecomindConfig) -> None:
    """Settings of the logs are checked before any stage begins, and the rest follows them."""
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
        config.ranker.utility_weights = config.reward or config.ranker.utility_weights


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
    config.ranker.utility_weights = source.utility(config.reward or chosen)
    for task in config.ranker.utility_weights:
        if task not in tasks:
            raise ConfigError(
                f"the reward weighs a task that the log does not have: {task!r}",
                mend=did_you_mean(task, tasks),
            )
    config.policy.support_density = config.policy.support_density or source.support_density
    gate, first = GateConfig(), next(iter(config.ranker.utility_weights))
    if config.gate.target_metric == gate.target_metric and "watch_10s" not in tasks:
        config.gate.target_metric = f"{first}_per_session"
    if config.gate.must_not_rise == gate.must_not_rise and "hide" not in tasks:
        config.gate.must_not_rise = [f"{task}_per_session" for task in source.guarded]
