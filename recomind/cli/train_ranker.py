"""`recomind train-ranker`: the ensemble, calibrated on later days."""

from __future__ import annotations

import torch

from recomind.cli.context import Run, is_current
from recomind.cli.progress import StageLine
from recomind.data import SessionDataset
from recomind.ranker import (
    SessionRanker,
    fit_ranker,
    load_rankers,
    new_ranker,
    predict,
    quality,
    save_rankers,
)
from recomind.streams import hash_uniform


def run(run: Run, round_index: int) -> None:
    """Fit every member; later rounds start from the weights of the round before."""
    folder = run.path("ranker", round_index)
    inputs = run.session_folders(round_index)
    if round_index:
        inputs = [*inputs, run.path("ranker", round_index - 1)]
    manifest = run.manifest("ranker", "train-ranker", round_index, ["ranker"], inputs)
    line = run.line("train-ranker", round_index)
    if is_current(folder, manifest):
        return line.skipped()
    dataset = run.dataset(round_index)
    members = [
        _fit_member(run, dataset, round_index, member, line)
        for member in range(run.config.ranker.num_members)
    ]
    test = dataset.rows("test")
    if len(test):
        manifest.metrics = quality(*predict(members[0], dataset, test), dataset.tasks)
    save_rankers(folder, members, dataset.catalogue, manifest)
    task = next(iter(run.weights))
    auc = manifest.metrics.get(f"auc.{task}")
    line.done(f"(AUC {auc:.4f} for {task} on later days)" if auc else "")


def _fit_member(
    run: Run, dataset: SessionDataset, round_index: int, member: int, line: StageLine
) -> SessionRanker:
    """One member: its own seed and its own bootstrap sample of the sessions."""
    config = run.config.ranker
    seed = run.seed(f"member-{member}", round_index)
    if round_index == 0:
        ranker = new_ranker(dataset, config, seed)
    else:
        ranker = load_rankers(run.path("ranker", round_index - 1))[member]
        ranker.catalogue = dataset.catalogue
        ranker.calibration_slope.fill_(1.0)
        ranker.calibration_offset.fill_(0.0)
    total = config.num_members
    return fit_ranker(
        ranker,
        dataset,
        rows=_member_rows(dataset, member, seed),
        calibration_rows=dataset.rows("calibration", holdout=False),
        num_epochs=config.refit_epochs if round_index else config.num_epochs,
        seed=seed,
        progress=lambda done, of, loss: line(member + done / of, total, f"loss {loss:.4f}"),
    )


def _member_rows(dataset: SessionDataset, member: int, seed: int) -> torch.Tensor:
    """All training rows for the first member, the ranker; 80 % of the sessions for another."""
    rows = dataset.rows("train", holdout=False)
    if member == 0:
        return rows
    kept = hash_uniform(dataset.session_index(rows), seed % 2**31) < 0.8
    return rows[kept]
