"""`recomind fit-simulator`: the simulator that a policy trains in, on top of the rankers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recomind.artifacts import Manifest
from recomind.data import SessionDataset
from recomind.pipeline.loading import load_ensemble
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage
from recomind.simulation import fit_simulator
from recomind.simulation.moving import KNOWN


class FitSimulator(Stage):
    """Fitted to the training users of all sessions so far."""

    name, kind, artifact = "fit-simulator", "simulator", "simulator"
    groups = ("simulation", "ranker")

    def inputs(self, round: Round) -> list[Path]:
        """The rankers and all sessions so far."""
        return [round.path("ranker"), *round.session_folders]

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Fit fatigue, hazards, trees and dwell."""
        dataset, config = round.dataset(), round.config.simulation
        metrics = fit_simulator(
            self.path(round),
            load_ensemble(round),
            dataset,
            config,
            manifest,
            seed=manifest.seed,
            rewarded=[task for task, weight in round.run.reward_weights.items() if weight],
        )
        auc = metrics.get("auc.leave")
        notes = [f"AUC {auc:.3f} for leaving on later days"] if auc else []
        moving = moving_notes(manifest.extra.get("moving_features", {}))
        return "; ".join(notes + moving + _cut_short(dataset, config.horizon))


def moving_notes(explained: Mapping[str, float]) -> list[str]:
    """What becomes of user features that change within a session."""
    known = [name for name, share in explained.items() if share >= KNOWN]
    frozen = [f"{name} ({share:.0%})" for name, share in explained.items() if share < KNOWN]
    notes = [f"moves with the events: {', '.join(known)}"] if known else []
    if frozen:
        notes.append(
            "warning: these user features change within a session, and its events explain little "
            f"of how: {', '.join(frozen)}; simulated sessions keep them as they were at the start. "
            "Leave them out, or compute them from responses, dwell times and the clock"
        )
    return notes


def _cut_short(dataset: SessionDataset, horizon: int) -> list[str]:
    """A warning where logged sessions are longer than simulated ones can be."""
    position = dataset.position(dataset.rows())
    longest = int(position.max()) + 1 if len(position) else 0
    if longest <= horizon:
        return []
    share = int((position == horizon).sum()) / max(1, int((position == 0).sum()))
    return [
        f"warning: {share:.1%} of the logged sessions are longer than simulation.horizon={horizon},"
        f" the longest has {longest} events"
    ]
