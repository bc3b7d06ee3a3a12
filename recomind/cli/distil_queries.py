"""`recomind distil-queries`: have the index fetch what the round's policy values."""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.cli.collect_logs import load_policy
from recomind.cli.context import Run, is_current
from recomind.data import SessionDataset
from recomind.errors import ConfigError
from recomind.policy import SupportedValues
from recomind.retrieval import Retrieval, distil_queries, load_retrieval, value_recall
from recomind.streams import draw_rows, make_generator


def run(run: Run, round_index: int) -> None:
    """Learn a query head on logged states and write the round's index with it.

    Raises:
        ConfigError: `distil.num_states` is 0, which means no head.
    """
    if not run.config.distil.num_states:
        raise ConfigError(
            "no query is to be distilled", got="distil.num_states=0", mend="raise distil.num_states"
        )
    inputs = [run.path(n, round_index) for n in ("policy", "ranker", "index")]
    inputs += run.session_folders(round_index)
    groups = ["distil", "policy", "ranker"]
    manifest = run.manifest("index", "distil-queries", round_index, groups, inputs)
    folder, line = run.path("query_index", round_index), run.line("distil-queries", round_index)
    if is_current(folder, manifest):
        return line.skipped()
    config, generator = run.config.distil, make_generator(manifest.seed)
    dataset, values = run.dataset(round_index), SupportedValues(load_policy(run, round_index))
    before = load_retrieval(run.path("index", round_index), dataset.catalogue)
    state = dataset.state(_drawn(dataset, "train", config.num_states, generator))
    after = distil_queries(
        before, values, state, config, generator, lambda done, total, _: line(done, total)
    )
    rows = _drawn(dataset, "calibration", config.num_recall_states, generator)
    metrics, k = _recalls(run, dataset, rows, (before, after), values), config.recall_at
    manifest.metrics = metrics
    after.save(folder, manifest)
    shares = [metrics.get(f"value_recall@{k}{name}") for name in ("_before", "")]
    note = f"(value recall@{k} {shares[0]:.3f} before, {shares[1]:.3f} after)" if metrics else ""
    line.done(note)


def _recalls(
    run: Run,
    dataset: SessionDataset,
    rows: Tensor,
    retrievals: tuple[Retrieval, Retrieval],
    values: SupportedValues,
) -> dict[str, float]:
    """Of both retrievals on the same states and items; none where there is no state."""
    if not len(rows):
        return {}
    config, metrics = run.config.distil, {}
    for name, retrieval in zip(("_before", ""), retrievals, strict=True):
        metrics[f"value_recall@{config.recall_at}{name}"] = value_recall(
            retrieval,
            values,
            dataset.state(rows),
            config.recall_at,
            max_items=config.max_recall_items,
            generator=make_generator(run.seed("distil-queries")),
        )
    return metrics


def _drawn(dataset: SessionDataset, split: str, num: int, generator: torch.Generator) -> Tensor:
    """At most `num` rows of users in training, drawn without repetition."""
    return draw_rows(dataset.rows(split, holdout=False), num, generator)
