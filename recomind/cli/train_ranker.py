"""`recomind train-ranker`: the ensemble, calibrated on later days."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from recomind.artifacts import Manifest
from recomind.cli.context import Run, is_current
from recomind.cli.progress import StageLine
from recomind.data import SessionDataset, SessionSource, SessionStream
from recomind.ranker import (
    SessionRanker,
    calibrate_on,
    fit_ranker,
    new_ranker,
    predict_blocks,
    quality_report,
    report_groups,
    save_rankers,
    training_rows,
)
from recomind.ranker.config import ExternalKind, RefitOn
from recomind.ranker.external import CompletedRanker, ExternalRanker, load_external, require_tasks
from recomind.streams import hash_uniform
from recomind.types import Ranker

_KEPT_SHARE = 0.8  # of the sessions, for a member that is not the first


def run(run: Run, round_index: int) -> None:
    """Fit every member from fresh weights, on the logs that `ranker.refit_on` says.

    With an external ranker, that is the first member, completed by the second for the tasks that
    it does not have; it is calibrated and otherwise left as it is.
    """
    folder = run.path("ranker", round_index)
    sessions = _sessions(run, round_index)
    manifest = run.manifest("ranker", "train-ranker", round_index, ["ranker"], sessions)
    line = run.line("train-ranker", round_index)
    config = run.config.ranker
    if is_current(folder, manifest):
        return line.skipped()
    source = SessionStream.open(sessions, config.history_length, config.max_block_events)
    external = _external(run, source)
    # The external ranker is calibrated before the rest is trained: what is wrong with it shows.
    first = 0 if external is None else 1
    own = [
        _fit_member(run, source, round_index, member, line, whole=member == first)
        for member in range(first, config.num_members)
    ]
    members: list[Ranker] = [*own]
    if external is not None:
        members = [CompletedRanker(external, own[0]), *own]
    manifest.metrics = _quality(members[0], source)
    save_rankers(folder, members, source.catalogue, manifest)
    line.done(_summary(run, manifest))


def _sessions(run: Run, round_index: int) -> list[Path]:
    """What a round's ranker learns from."""
    first = 1 if round_index and run.config.ranker.refit_on is RefitOn.own else 0
    return run.session_folders(round_index)[first:]


def _external(run: Run, source: SessionSource) -> ExternalRanker | None:
    config = run.config.ranker.external
    if config.kind is ExternalKind.none:
        return None
    require_tasks(config, source.tasks)
    ranker = load_external(config, source.catalogue)
    calibrate_on(ranker, source)
    return ranker


def _fit_member(
    run: Run,
    source: SessionSource,
    round_index: int,
    member: int,
    line: StageLine,
    *,
    whole: bool,
) -> SessionRanker:
    """One member: its own seed, and all sessions or its own bootstrap sample of them."""
    config = run.config.ranker
    seed = run.seed(f"member-{member}", round_index)
    ranker = new_ranker(source, config, seed)
    total = config.num_members

    def rows(block: SessionDataset) -> Tensor:
        chosen = training_rows(block)
        if whole:
            return chosen
        kept = hash_uniform(block.session_key(chosen), seed % 2**31) < _KEPT_SHARE
        return chosen[kept]

    name = f"{run.path('ranker', round_index).name}_member_{member}_{seed:x}.safetensors"
    return fit_ranker(
        ranker,
        source,
        num_epochs=config.num_epochs,
        seed=seed,
        rows=rows,
        progress=lambda share, loss: line(member + share, total, f"loss {loss:.4f}"),
        checkpoint=run.folder / "checkpoints" / name,
    )


def _quality(ranker: Ranker, source: SessionSource) -> dict[str, float]:
    """Figures of the test days; none where the log has no such days."""
    if source.num_rows("test") == 0:
        return {}
    seen = torch.zeros(source.catalogue.num_items, dtype=torch.bool)
    for block in source.blocks():
        seen[block.item_id(training_rows(block))] = True
    logits, labels = predict_blocks(ranker, source, _test_rows)
    groups = _groups(source, seen, len(labels))
    return quality_report(logits, labels, ranker.tasks, groups)


def _test_rows(block: SessionDataset) -> Tensor:
    return block.rows("test")


def _groups(source: SessionSource, seen: Tensor, num_rows: int) -> dict[str, Tensor]:
    parts: list[dict[str, Tensor]] = [
        report_groups(block, _test_rows(block), seen) for block in source.blocks()
    ]
    return {name: torch.cat([part[name] for part in parts])[:num_rows] for name in parts[0]}


def _summary(run: Run, manifest: Manifest) -> str:
    task = next(iter(run.weights))
    auc = manifest.metrics.get(f"auc.{task}")
    return f"(AUC {auc:.4f} for {task} on later days)" if auc else ""
