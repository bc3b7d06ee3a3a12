"""Each round's policy is judged in the world, so that the best one can be kept.

Fresh logs do not always make a better policy. Every round's policy meets the same users of the
world, on session seeds that the report never uses: the luck that a round is chosen for is not in
the figures that the report gives for it. The baseline of all rounds is the first ranker; the ranker
that was refit on the same logs as the round's policy stands beside it. Ours.

runs/demo/round_1/selection/selection.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recomind.artifacts import Manifest, write_artifact, write_json
from recomind.errors import SchemaError
from recomind.evaluation.report import environment_entry
from recomind.evaluation.rollout import SessionOutcomes
from recomind.pipeline.loading import load_policy, load_pool, ranker_policy
from recomind.pipeline.play import play
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.selection import SELECTION
from recomind.pipeline.stage import Stage
from recomind.policy import QPolicy
from recomind.streams import draw_seeds
from recomind.types import CandidateSource, Policy

_REFIT = "refit_ranker"  # the round's own, where that is not the first


class SelectRound(Stage):
    """One round's policy beside the first ranker, in the world."""

    name, kind, artifact = "select-round", "selection", "selection"
    groups = ("world", "candidates")

    def inputs(self, round: Round) -> list[Path]:
        """The round's policy, the rankers beside it, and the indices that each chooses from."""
        index = round.run.policy_index
        inputs = round.paths("policy", "ranker", index)
        inputs += round.paths("index") if index != "index" else []
        return inputs + ([] if round.is_first else round.first.paths("ranker", "index"))

    def manifest(self, round: Round) -> Manifest:
        """With the settings of the judgement, and one seed: all rounds meet the same users."""
        manifest = super().manifest(round)
        manifest.seed = round.run.seed(self.name)
        manifest.config |= {
            "rounds_sessions": round.config.evaluation.rounds_sessions,
            "target_metric": round.config.gate.target_metric,
            "utility_weights": round.run.weights,
        }
        return manifest

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Judge.

        Raises:
            SchemaError: the world does not have `gate.target_metric`.
        """
        judged = _judged(round, _outcomes(round, line))
        manifest.metrics = {"value": judged["value"]}
        with write_artifact(self.path(round), manifest) as staging:
            write_json(staging / SELECTION, judged)
        return f"{judged['metric']} {judged['value']:.3f}"


def _outcomes(round: Round, line: StageLine) -> dict[str, SessionOutcomes]:
    settings = round.config.evaluation
    policy = QPolicy(load_policy(round)), load_pool(round, round.run.policy_index)
    arms: dict[str, tuple[Policy, CandidateSource]] = {
        settings.policy_arm: policy,
        settings.baseline_arm: (ranker_policy(round.first), load_pool(round.first)),
    }
    if not round.is_first:
        arms[_REFIT] = (ranker_policy(round), load_pool(round))
    done: list[str] = []

    def on_arm(arm: str) -> None:
        done.append(arm)
        line(len(done), len(arms), f"({arm})")

    world, name = round.run.require_world(SelectRound.name), SelectRound.name
    seeds = draw_seeds(settings.rounds_sessions, round.run.generator(name))
    return play(world, arms, seeds, settings.batch_size, on_arm)


def _judged(round: Round, outcomes: dict[str, SessionOutcomes]) -> dict[str, Any]:
    settings, metric = round.config.evaluation, round.config.gate.target_metric
    refit_arm = settings.baseline_arm if round.is_first else _REFIT
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
        "round": round.index,
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
