"""All that an update over runs reads, gathered where the log is and moved to where the weights are.

What sizes depend on the data (which events are there, which items differ) is settled here, on the
processor, so that nothing on a device has to be waited for. Symbols as in `recomind.ranker.runs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from recomind.data import SessionDataset
from recomind.ranker.history import numbers_of_events, progress_features, tallies_of_log
from recomind.ranker.items import DistinctItems, distinct_items
from recomind.ranker.runs import Runs, runs_of
from recomind.types import Catalogue


class RunLog:
    """All numbers of a block of a log that no weight changes, 200 bytes an event."""

    def __init__(self, dataset: SessionDataset) -> None:
        rows = torch.arange(len(dataset))
        state, labels_EH = dataset.with_history(1).state(rows), dataset.labels(rows)
        dwell_s, length = dataset.dwell_s(rows), dataset.history_length
        outside = torch.zeros_like(dwell_s)
        self.event_numbers = numbers_of_events(labels_EH, dwell_s, state.gap_s, outside)
        tallies = tallies_of_log(labels_EH, dwell_s, rows - dataset.begin(rows), length)
        self.user_numbers = torch.cat([state.user_features, tallies], dim=1)
        self.progress = progress_features(state)


_logs: WeakKeyDictionary[SessionDataset, RunLog] = WeakKeyDictionary()


def run_log(dataset: SessionDataset) -> RunLog:
    """The numbers of `dataset`, kept for as long as it is."""
    if dataset not in _logs:
        _logs[dataset] = RunLog(dataset)
    return _logs[dataset]


@dataclass(kw_only=True, slots=True)
class RunBatch:
    """The rows [B] of a batch, on one device; `Runs` says what is where."""

    runs: Runs
    items: DistinctItems  # events [n], then impressions [B]
    event_numbers: Tensor  # [n, H + 6]
    user_numbers: Tensor  # [B, U + tallies]
    progress: Tensor  # [B, 5]
    labels: Tensor  # [B, H]


def run_batch(dataset: SessionDataset, rows: Tensor, length: int, catalogue: Catalogue) -> RunBatch:
    """The batch of different `rows` [B], on the processor.

    Args:
        dataset: the block that the rows are of.
        rows: run by run, as `order_by_runs` gives them; ascending ones are.
        length: places of a run.
        catalogue: of the ranker, which may know other content of the items than the block does.
    """
    log, runs = run_log(dataset), runs_of(dataset, rows, length)
    numbers = log.event_numbers[runs.event_row]
    numbers[:, -1] = runs.event_inside
    item_id = dataset.item_id(torch.cat([runs.event_row, rows]))
    snapshot = torch.cat([runs.event_snapshot, dataset.snapshot(rows)])
    return RunBatch(
        runs=runs,
        items=distinct_items(catalogue, item_id, snapshot),
        event_numbers=numbers,
        user_numbers=log.user_numbers[rows],
        progress=log.progress[rows],
        labels=dataset.labels(rows),
    )


def batches_ahead(
    dataset: SessionDataset, parts: Iterable[Tensor], length: int, catalogue: Catalogue
) -> Iterator[tuple[Tensor, RunBatch]]:
    """Rows and batch of each part; the next one is made while the one before is in use."""
    with ThreadPoolExecutor(1) as worker:
        waiting = None
        for rows in parts:
            coming = rows, worker.submit(run_batch, dataset, rows, length, catalogue)
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = coming
        if waiting is not None:
            yield waiting[0], waiting[1].result()
