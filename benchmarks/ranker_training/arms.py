"""One arm of the comparison in a process of its own, which measures whenever it is told to.

Usage: arms.py ARM LOG. Reads a line, trains for a while, answers with rows per processor second;
so that a parent makes arms take turns. `ours` uses what every version of the package has, and so
measures the one that PYTHONPATH leads to.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset, SessionStream
from recomind.ranker import RankerConfig, fit_ranker, new_ranker, training_rows

UPDATES = 16
_TREES = 100
_ROWS = 8_000  # that the trees see
Arm = Callable[[], float]  # trains for a while: rows per processor second


def block_of(log: Path) -> SessionDataset:
    """The whole log in memory."""
    config = RankerConfig()
    source = SessionStream.open([log], config.history_length, 10**9)
    return next(source.blocks())


def rate_of(updates: Callable[[], int]) -> Arm:
    """The rate of what trains, and returns on how many rows."""

    def rate() -> float:
        begin = time.process_time()
        num = updates()
        return num / (time.process_time() - begin)

    return rate


def ours(log: Path) -> Arm:
    """Updates of `fit_ranker` with the default settings, from the second of a pass to its last."""
    block, config = block_of(log), RankerConfig()
    ranker, rows = new_ranker(block, config, 0), training_rows(block)
    rows = rows[: UPDATES * config.batch_size]

    def train() -> float:
        times: list[float] = []
        fit_ranker(
            ranker,
            block,
            num_epochs=1,
            seed=0,
            rows=lambda _: rows,
            calibration_rows=lambda _: rows[:0],
            progress=lambda share, loss: times.append(time.process_time()),
        )
        return (len(times) - 1) * config.batch_size / (times[-1] - times[0])

    return train


def net(name: str, log: Path) -> Arm:
    """Updates of a plain net, whose rows are gathered from the log as a loader would."""
    from benchmarks.ranker_training import nets

    block, config = block_of(log), RankerConfig()
    catalogue, rows = block.catalogue, training_rows(block)
    sizes = [catalogue.num_items, *catalogue.vocab_sizes]
    numbers = block.num_user_features + len(catalogue.dense_names)
    model = getattr(nets, name)(sizes, numbers, len(block.tasks))
    sparse = list(model.embeddings.parameters())
    dense = [p for p in model.parameters() if all(p is not s for s in sparse)]
    optimizers = [torch.optim.AdamW(dense, fused=True), torch.optim.SparseAdam(sparse)]
    batches = cycle(rows[torch.randperm(len(rows))].split(config.batch_size))

    def ids(item_id: Tensor) -> Tensor:
        return torch.cat([item_id[..., None], catalogue.features(item_id).categorical], dim=-1)

    def updates() -> int:
        num = 0
        for _ in range(UPDATES):
            batch = next(batches)
            state, item = block.state(batch), block.item_id(batch)
            content = catalogue.features(item).dense
            numbers = torch.cat([state.user_features, content], dim=1)
            logits = model(ids(item), numbers, ids(state.history_item_id), state.history_mask)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, block.labels(batch))
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            num += len(batch)
        return num

    return rate_of(updates)


def lightgbm(log: Path) -> Arm:
    """A whole fit of trees for one task: rows over its seconds."""
    import lightgbm as trees

    block = block_of(log)
    rows = training_rows(block)[:_ROWS]
    state, item = block.state(rows), block.item_id(rows)
    told = [state.user_features, block.catalogue.features(item).dense]
    told += [state.history_feedback[:, -3:].flatten(1), state.history_dwell_s[:, -3:]]
    table, label = torch.cat(told, dim=1).numpy(), block.labels(rows)[:, 0].numpy().copy()
    settings = {"objective": "binary", "num_threads": 1, "verbosity": -1}

    def updates() -> int:
        trees.train(settings, trees.Dataset(table, label), _TREES)
        return len(rows)

    return rate_of(updates)


def products(log: Path) -> Arm:
    """The matrix products of the ranker's own updates, there and back, and nothing else."""
    from recomind.ranker.runs import order_by_runs, runs_of
    from recomind.streams import make_generator

    block, config = block_of(log), RankerConfig()
    ranker = new_ranker(block, config, 0)
    rows = order_by_runs(block, training_rows(block), config.run_length, make_generator(0))
    rows = rows[: config.batch_size]
    runs = runs_of(block, rows, config.run_length)
    items = torch.cat([runs.event_row, rows])
    num_items, num_events = len(block.item_id(items).unique()), len(runs.event_row)
    layers = _layers(ranker, num_items, num_events, len(rows))
    inputs = [
        (torch.randn(n, layer.in_features), torch.randn(n, layer.out_features))
        for layer, n in layers
    ]

    def updates() -> int:
        for _ in range(UPDATES):
            for (layer, _), (x, back) in zip(layers, inputs, strict=True):
                with torch.no_grad():
                    _ = x @ layer.weight.T, back @ layer.weight, back.T @ x
        return UPDATES * len(rows)

    return rate_of(updates)


def _layers(ranker: nn.Module, items: int, events: int, rows: int) -> list[tuple[nn.Linear, int]]:
    """Every linear layer, with the rows that it is applied to in an update."""
    of_items, of_events = ("items.net", "gate"), ("events", "value")

    def num(name: str) -> int:
        if name.startswith(of_items):
            return items
        return events if name.startswith(of_events) else rows

    layers = {n: m for n, m in ranker.named_modules() if isinstance(m, nn.Linear)}
    return [(layer, num(name)) for name, layer in layers.items() if name != "next_action"]


ARMS = {
    "ours": ours,
    "before": ours,
    "deepfm": lambda log: net("DeepFM", log),
    "din": lambda log: net("DIN", log),
    "lightgbm": lightgbm,
    "products": products,
}


def answers(arm: Arm) -> Iterator[float]:
    """Rows per processor second, once for each line that comes in."""
    arm()
    for _ in sys.stdin:
        yield arm()


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("ready", flush=True)
    for rate in answers(ARMS[sys.argv[1]](Path(sys.argv[2]))):
        print(rate, flush=True)
