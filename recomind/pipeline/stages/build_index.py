"""`recomind build-index`: two towers and the nearest-neighbour index over the catalogue."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from recomind.artifacts import Manifest
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage
from recomind.retrieval import train_retrieval


class BuildIndex(Stage):
    """Towers trained on all sessions so far, and every item's vector."""

    name, kind, artifact, groups = "build-index", "index", "index", ("retrieval",)

    def inputs(self, round: Round) -> list[Path]:
        """All sessions so far."""
        return round.session_folders

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Train the towers and index every item."""
        train_retrieval(
            round.dataset(),
            dataclasses.replace(round.config.retrieval, seed=manifest.seed),
            self.path(round),
            inputs=manifest.inputs,
            manifest_config=manifest.config,
            on_batch=lambda done, total, loss: line(done, total, f"of the towers, loss {loss:.3f}"),
            on_items=lambda done, total: line(done, total, f"of {total:,} items"),
            device=round.run.device,
        )
        return ""
