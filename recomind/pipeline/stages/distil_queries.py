"""`recomind distil-queries`: have the index fetch what the round's policy values."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from recomind.artifacts import Manifest
from recomind.data import SessionDataset
from recomind.errors import ConfigError
from recomind.pipeline.loading import load_policy
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage
from recomind.policy import SupportedValues
from recomind.retrieval import (
    DistilConfig,
    distil_queries,
    load_retrieval,
    value_recall,
)
from recomind.streams import draw_rows, make_generator


class DistilQueries(Stage):
    """The round's index with a query head, learned on logged states."""

    name, kind, artifact = "distil-queries", "index", "query_index"
    groups = ("distil", "policy", "ranker")

    def inputs(self, round: Round) -> list[Path]:
        """The policy with its ranker, the index, and all sessions so far.

        Raises:
            ConfigError: `distil.num_states` is 0, which means no head.
        """
        if not round.config.distil.num_states:
            raise ConfigError(
                "no query is to be distilled",
                got="distil.num_states=0",
                mend="raise distil.num_states",
            )
        return [*round.paths("policy", "ranker", "index"), *round.session_folders]

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Learn the head, and measure what it is worth on later days."""
        config, generator = round.config.distil, make_generator(manifest.seed)
        dataset, values = round.dataset(), SupportedValues(load_policy(round))
        before = load_retrieval(round.path("index"), dataset.catalogue)
        state = dataset.state(_drawn(dataset, "train", config.num_states, generator))
        after = distil_queries(
            before, values, state, config, generator, lambda done, total, _: line(done, total)
        )
        rows = _drawn(dataset, "calibration", config.num_recall_states, generator)
        if len(rows):
            # The same draws for both, and in every round.
            seed, state = round.run.seed(self.name), dataset.state(rows)
            recall = [
                value_recall(
                    retrieval,
                    values,
                    state,
                    config.recall_at,
                    max_items=config.max_recall_items,
                    generator=make_generator(seed),
                )
                for retrieval in (before, after)
            ]
            names = [f"value_recall@{config.recall_at}{end}" for end in ("_before", "")]
            manifest.metrics = dict(zip(names, recall, strict=True))
        after.save(self.path(round), manifest)
        return _note(manifest.metrics, config)


def _note(metrics: dict[str, float], config: DistilConfig) -> str:
    if not metrics:
        return ""
    before, after = metrics.values()
    return f"value recall@{config.recall_at} {before:.3f} before, {after:.3f} after"


def _drawn(dataset: SessionDataset, split: str, num: int, generator: torch.Generator) -> Tensor:
    """At most `num` rows of users in training, drawn without repetition."""
    return draw_rows(dataset.rows(split, holdout=False), num, generator)
