"""`recomind train-ranker`: the ensemble, calibrated on later days."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from recomind.artifacts import Manifest
from recomind.data import SessionDataset, SessionSource, SessionStream
from recomind.pipeline.loading import load_ensemble
from recomind.pipeline.progress import StageLine
from recomind.pipeline.refit import HeldOut, Refit, is_worse, ways_to_refit
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage
from recomind.ranker import (
    ExternalConfig,
    ExternalKind,
    SessionRanker,
    calibrate_on,
    fit_ranker,
    new_ranker,
    predict_blocks,
    quality_report,
    report_groups,
    save_rankers,
    start_from,
    training_rows,
)
from recomind.ranker.external import CompletedRanker, ExternalRanker, load_external, require_tasks
from recomind.streams import hash_uniform
from recomind.types import Ranker

_WORSE = (
    "warning: the refit is worse than the last round's ranker on held-out fresh sessions; that one "
    "is kept. Collect more sessions in a round, or try ranker.refit_on=auto"
)
_KEPT_SHARE = 0.8  # share of the sessions for a member that is not the first


class TrainRanker(Stage):
    """Every member, on the logs that `ranker.refit_on` says.

    A later round keeps the last round's rankers where its own is worse on held-out fresh sessions
    (`recomind.pipeline.refit`). With an external ranker, that is the first member, completed by the
    second for the tasks that it does not have; it is calibrated and otherwise left as it is.
    """

    name, kind, artifact, groups = "train-ranker", "ranker", "ranker", ("ranker",)

    def inputs(self, round: Round) -> list[Path]:
        """What the round's ranker may learn from, and the ranker that it begins with."""
        ways = ways_to_refit(round)
        sessions = [p for p in round.session_folders if any(p in way.folders for way in ways)]
        begins = [Path(round.config.ranker.start_from)] if _begins_with(round) else []
        return [*sessions, *begins]

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Fit, calibrate, measure on the test days."""
        ways, external = ways_to_refit(round), round.config.ranker.external
        held_out = None if round.is_first else HeldOut(round)
        # The external ranker is calibrated before the rest is trained: what is wrong with it shows.
        completed = _external(external, _source(round, ways[0]))
        first = 0 if completed is None else 1
        fitted = [(way, _fit_member(round, way, first, line, whole=True)) for way in ways]
        way, best, note = _best(fitted, held_out)
        if held_out is not None and completed is None and (kept := _kept(round, best, held_out)):
            own, note = kept, _WORSE
        else:
            others = range(first + 1, round.config.ranker.num_members)
            own = [best, *(_fit_member(round, way, member, line) for member in others)]
        members: list[Ranker] = [*own]
        if completed is not None:
            members = [CompletedRanker(completed, own[0]), *own]
        source = _source(round, way)
        manifest.metrics = _quality(members[0], source)
        save_rankers(self.path(round), members, source.catalogue, manifest)
        task = next(iter(round.run.weights))
        auc = manifest.metrics.get(f"auc.{task}")
        return "; ".join(
            filter(None, (f"AUC {auc:.4f} for {task} on later days" if auc else "", note))
        )


def _begins_with(round: Round) -> bool:
    """Whether the round's rankers begin with the weights of `ranker.start_from`."""
    return round.is_first and bool(round.config.ranker.start_from)


def _source(round: Round, way: Refit) -> SessionStream:
    config = round.config.ranker
    return SessionStream.open(list(way.folders), config.history_length, config.max_block_events)


def _best(
    fitted: Sequence[tuple[Refit, SessionRanker]], held_out: HeldOut | None
) -> tuple[Refit, SessionRanker, str]:
    """The way whose ranker loses least on held-out sessions, and what is said of it."""
    if len(fitted) == 1 or held_out is None:
        return *fitted[0], ""
    losses = [float(held_out.losses(ranker).mean()) for _, ranker in fitted]
    way, ranker = fitted[losses.index(min(losses))]
    told = ", ".join(
        f"{each.name} {loss:.4f}" for (each, _), loss in zip(fitted, losses, strict=True)
    )
    return way, ranker, f"refit on {way.name}: log-loss {told}"


def _kept(round: Round, ranker: SessionRanker, held_out: HeldOut) -> list[SessionRanker]:
    """The last round's rankers, where `ranker` is shown to be worse than their first; else none."""
    last = load_ensemble(round.previous)
    if not is_worse(held_out.losses(ranker), held_out.losses(last[0])):
        return []
    return [cast(SessionRanker, member) for member in last]


def _external(config: ExternalConfig, source: SessionSource) -> ExternalRanker | None:
    if config.kind is ExternalKind.none:
        return None
    require_tasks(config, source.tasks)
    ranker = load_external(config, source.catalogue)
    calibrate_on(ranker, source)
    return ranker


def _fit_member(
    round: Round, way: Refit, member: int, line: StageLine, *, whole: bool = False
) -> SessionRanker:
    """One member: its own seed, and all sessions or its own bootstrap sample of them."""
    config, source = round.config.ranker, _source(round, way)
    seed = round.seed(f"member-{member}")

    def rows(block: SessionDataset) -> Tensor:
        chosen = training_rows(block)
        if whole:
            return chosen
        kept = hash_uniform(block.session_key(chosen), seed % 2**31) < _KEPT_SHARE
        return chosen[kept]

    start = new_ranker(source, config, seed)
    if _begins_with(round):
        start_from(start, Path(config.start_from), member)
    elif way.warm:
        start_from(start, round.previous.path("ranker"), member)
    alone = len(ways_to_refit(round)) == 1
    name = f"ranker_member_{member}_{seed:x}{'' if alone else f'_{way.name}'}.safetensors"
    return fit_ranker(
        start,
        source,
        num_epochs=config.num_epochs,
        seed=seed,
        rows=rows,
        progress=lambda share, loss: line(member + share, config.num_members, f"loss {loss:.4f}"),
        checkpoint=round.run.folder / "checkpoints" / name,
        device=round.run.device,
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
