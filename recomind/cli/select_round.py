"""Which round's policy a run ends with: each is judged in the world, and the best one is kept.

Fresh logs do not always make a better policy. Every round's policy meets the same users of the
world, on session seeds that the report never uses: the luck that a round is chosen for is not in
the figures that the report gives for it. The baseline of all rounds is the first ranker; the ranker
that was refit on the same logs as the round's policy stands beside it. Ours.

runs/demo/round_1/selection/selection.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recomind.artifacts import Manifest, read_json, write_artifact, write_json
from recomind.cli.collect_logs import load_policy
from recomind.cli.context import Run, is_current
from recomind.cli.progress import StageLine
from recomind.config import KeepRound
from recomind.errors import SchemaError
from recomind.evaluation.report import environment_entry
from recomind.evaluation.rollout import rollout
from recomind.policy import QPolicy, RankerPolicy
from recomind.ranker import load_rankers
from recomind.streams import draw_seeds
from recomind.types import Policy

SELECTION = "selection.json"
_REFIT = "refit_ranker"  # the round's own, where that is not the first


def judge(run: Run, round_index: int) -> None:
    """Judge one round's policy in the world."""
    folder, manifest = run.path("selection", round_index), _manifest(run, round_index)
    line = run.line("select-round", round_index)
    if is_current(folder, manifest):
        return line.skipped()
    judged = _judge(run, round_index, line)
    manifest.metrics = {"value": judged["value"]}
    with write_artifact(folder, manifest) as staging:
        write_json(staging / SELECTION, judged)
    line.done(f"({judged['metric']} {judged['value']:.3f})")


def kept_round(judged: Sequence[Mapping[str, Any]], last: int) -> int:
    """The round of `judged_rounds` whose policy is kept; of equals the latest, it saw more logs."""
    best = max(judged, key=lambda each: (each["value"], each["round"]), default={"round": last})
    return best["round"]


def judged_rounds(run: Run, last: int) -> list[dict[str, Any]]:
    """`selection.json` of every round up to `last`, judged now where it is not yet."""
    if not chooses(run, last):
        return []
    for index in range(last + 1):
        if not is_current(run.path("selection", index), _manifest(run, index)):
            judge(run, index)
    return [
        read_json(run.path("selection", index) / SELECTION, "selection")
        for index in range(last + 1)
    ]


def chooses(run: Run, last: int) -> bool:
    """Whether one of the rounds up to `last` is chosen; where there are several, so is a world."""
    return last > 0 and run.config.keep is KeepRound.best


def _manifest(run: Run, round_index: int) -> Manifest:
    inputs = [run.path(n, round_index) for n in ("policy", "ranker", run.policy_index)]
    first = [run.path(n, 0) for n in ("ranker", "index")] if round_index else []
    own = [run.path("index", round_index)] if run.policy_index != "index" else []
    manifest = run.manifest(
        "selection", "select-round", round_index, ["world", "candidates"], [*inputs, *own, *first]
    )
    manifest.seed = run.seed("select-round")  # of all rounds: they meet the same users
    manifest.config |= {
        "rounds_sessions": run.config.evaluation.rounds_sessions,
        "target_metric": run.config.gate.target_metric,
        "utility_weights": run.weights,
    }
    return manifest


def _judge(run: Run, round_index: int, line: StageLine) -> dict[str, Any]:
    settings, metric = run.config.evaluation, run.config.gate.target_metric
    seeds = draw_seeds(settings.rounds_sessions, run.generator("select-round"))
    arms: dict[str, tuple[Policy, tuple[int, str]]] = {
        settings.policy_arm: (
            QPolicy(load_policy(run, round_index)),
            (round_index, run.policy_index),
        ),
        settings.baseline_arm: (ranker_of_round(run, 0), (0, "index")),
    }
    refit_arm = _REFIT if round_index else settings.baseline_arm
    if round_index:
        arms[refit_arm] = (ranker_of_round(run, round_index), (round_index, "index"))
    outcomes, world = {}, run.require_world("select-round")
    for arm, (acting, source) in arms.items():
        pool = run.pool_factory(*source)()
        outcomes[arm] = rollout(world, acting, pool, seeds, settings.batch_size)
        line(len(outcomes), len(arms), f"({arm})")
    entry = environment_entry("world", "world", outcomes, settings, [refit_arm])
    means, over_refit = entry["arms"], entry["lift_over"].get(refit_arm, entry["lift"])
    ours = means[settings.policy_arm].get(metric)
    if ours is None or ours["mean"] is None:
        raise SchemaError(
            "no round can be chosen by a metric that the world does not have",
            got=f"gate.target_metric={metric}",
            expected=sorted(means[settings.policy_arm]),
            mend="choose another one, or keep=last",
        )
    return {
        "round": round_index,
        "environment": "world",
        "metric": metric,
        "num_sessions": settings.rounds_sessions,
        "value": ours["mean"],
        "standard_error": ours["standard_error"],
        "baseline": "ranker of the first round",
        "baseline_value": means[settings.baseline_arm][metric]["mean"],
        "lift": entry["lift"][metric],
        "refit_value": means[refit_arm][metric]["mean"],
        "refit_lift": over_refit[metric],
    }


def ranker_of_round(run: Run, round_index: int) -> RankerPolicy:
    """The round's first ranker, greedy: what a supervised team would serve after that round."""
    return RankerPolicy(load_rankers(run.path("ranker", round_index))[:1], run.weights)
