"""The hold-out simulator, of another kind, to be judged in; part of `recomind fit-simulator`."""

from __future__ import annotations

from pathlib import Path

from recomind.artifacts import Manifest
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage
from recomind.simulation import fit_holdout


class FitHoldout(Stage):
    """Fitted to other users than the training simulator, and begun as on later days."""

    name, kind, artifact = "fit-holdout", "holdout_simulator", "holdout_simulator"
    groups = ("simulation", "ranker")

    def inputs(self, round: Round) -> list[Path]:
        """All sessions so far."""
        return round.session_folders

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Fit the trees."""
        config = round.config.simulation
        fit_holdout(self.path(round), round.dataset(), config, manifest, seed=manifest.seed)
        return ""
