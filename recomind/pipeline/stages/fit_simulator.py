"""`recomind fit-simulator`: the simulator that a policy trains in, on top of the rankers."""

from __future__ import annotations

from pathlib import Path

from recomind.artifacts import Manifest
from recomind.data import SessionDataset
from recomind.pipeline.loading import load_ensemble
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage
from recomind.simulation import fit_simulator


class FitSimulator(Stage):
    """Fitted to the training users of all sessions so far."""

    name, kind, artifact = "fit-simulator", "simulator", "simulator"
    groups = ("simulation", "ranker")

    def inputs(self, round: Round) -> list[Path]:
        """The rankers and all sessions so far."""
        return [round.path("ranker"), *round.session_folders]

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Fit gates, hazards, dwell."""
        dataset, config = round.dataset(), round.config.simulation
        metrics = fit_simulator(
            self.path(round), load_ensemble(round), dataset, config, manifest, seed=manifest.seed
        )
        auc = metrics.get("auc.leave")
        notes = [f"AUC {auc:.3f} for leaving on later days"] if auc else []
        return "; ".join(notes + _cut_short(dataset, config.horizon))


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
