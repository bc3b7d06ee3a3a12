"""`recomind build-index`: two towers and the nearest-neighbour index over the catalogue."""

from __future__ import annotations

import dataclasses

from recomind.cli.context import Run, is_current
from recomind.retrieval import train_retrieval


def run(run: Run, round_index: int) -> None:
    """Train the towers on all sessions so far and index every item."""
    folder = run.path("index", round_index)
    manifest = run.manifest(
        "index", "build-index", round_index, ["retrieval"], run.session_folders(round_index)
    )
    line = run.line("build-index", round_index)
    if is_current(folder, manifest):
        return line.skipped()
    train_retrieval(
        run.dataset(round_index),
        dataclasses.replace(run.config.retrieval, seed=manifest.seed),
        folder,
        inputs=manifest.inputs,
        manifest_config=manifest.config,
        on_batch=lambda done, total, loss: line(done, total, f"of the towers, loss {loss:.3f}"),
        on_items=lambda done, total: line(done, total, f"of {total:,} items"),
    )
    line.done()
