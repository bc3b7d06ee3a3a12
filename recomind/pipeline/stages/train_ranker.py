"""`recomind train-ranker`: the ensemble, calibrated on later days."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from recomind.artifacts import Manifest
from recomind.data import SessionDataset, SessionSource, SessionStream
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage
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
from recomind.ranker.config import ExternalConfig, ExternalKind, RefitOn
from recomind.ranker.external import CompletedRanker, ExternalRanker, load_external, require_tasks
from recomind.streams import hash_uniform
from recomind.types import Ranker

_KEPT_SHARE = 0.8  # share of the sessions for a member that is not the first


class TrainRanker(Stage):
    """Every member from fresh weights, on the logs that `ranker.refit_on` says.

    With an external ranker, that is the first member, completed by the second for the tasks that
    it does not have; it is calibrated and otherwise left as it is.
    """

    name, kind, artifact, groups = "train-ranker", "ranker", "ranker", ("ranker",)

    def inputs(self, round: Round) -> list[Path]:
        """What the round's ranker learns from."""
        own = not round.is_first and round.config.ranker.refit_on is RefitOn.own
        return round.session_folders[1 if own else 0 :]

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Fit, calibrate, measure on the test days."""
        config = round.config.ranker
        source = SessionStream.open(
            self.inputs(round), config.history_length, config.max_block_events
        )
        external = _external(config.external, source)
        # The external ranker is calibrated before the rest is trained: what is wrong with it shows.
        first = 0 if external is None else 1
        own = [
            _fit_member(round, source, member, line, whole=member == first)
            for member in range(first, config.num_members)
        ]
        members: list[Ranker] = [*own]
        if external is not None:
            members = [CompletedRanker(external, own[0]), *own]
        manifest.metrics = _quality(members[0], source)
        save_rankers(self.path(round), members, source.catalogue, manifest)
        task = next(iter(round.run.weights))
        auc = manifest.metrics.get(f"auc.{task}")
        return f"AUC {auc:.4f} for {task} on later days" if auc else ""


def _external(config: ExternalConfig, source: SessionSource) -> ExternalRanker | None:
    if config.kind is ExternalKind.none:
        return None
    require_tasks(config, source.tasks)
    ranker = load_external(config, source.catalogue)
    calibrate_on(ranker, source)
    return ranker


def _fit_member(
    round: Round, source: SessionSource, member: int, line: StageLine, *, whole: bool
) -> SessionRanker:
    """One member: its own seed, and all sessions or its own bootstrap sample of them."""
    config = round.config.ranker
    seed = round.seed(f"member-{member}")

    def rows(block: SessionDataset) -> Tensor:
        chosen = training_rows(block)
        if whole:
            return chosen
        kept = hash_uniform(block.session_key(chosen), seed % 2**31) < _KEPT_SHARE
        return chosen[kept]

    return fit_ranker(
        new_ranker(source, config, seed),
        source,
        num_epochs=config.num_epochs,
        seed=seed,
        rows=rows,
        progress=lambda share, loss: line(member + share, config.num_members, f"loss {loss:.4f}"),
        checkpoint=round.run.folder
        / "checkpoints"
        / f"ranker_member_{member}_{seed:x}.safetensors",
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
