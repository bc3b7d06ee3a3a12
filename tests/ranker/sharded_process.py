"""One process of a sharded training; `test_distributed` starts some of them."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from recomind.artifacts import load_tensors, save_tensors
from recomind.data import SessionDataset
from recomind.ranker import SessionRanker, new_ranker, predict, training_rows
from recomind.ranker.distributed import train_sharded
from recomind.ranker.sharding import load_gathered, shard
from tests.simulation.tiny import LENGTH, RANKER

NUM_EPOCHS, SEED = 3, 1
CONFIG = replace(RANKER, dropout=0.0, id_dropout=0.0, batch_size=65, next_action_weight=0.0)
MIXED = {"table_feature_0": "row_wise", "table_feature_1": "table_wise"}


def some_rows(block: SessionDataset) -> torch.Tensor:
    """Rows for eight batches that two processes share unevenly, and one that has a single row."""
    return training_rows(block)[: 8 * CONFIG.batch_size + 1]


def plain_ranker(dataset: SessionDataset) -> SessionRanker:
    """The ranker that every training starts from."""
    return new_ranker(dataset, CONFIG, 0)


def ranker_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint, under a plain ranker's names."""
    tensors = load_tensors(checkpoint)
    prefix = "ranker."
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def sharded_scores(dataset: SessionDataset, checkpoint: Path) -> torch.Tensor:
    """Logits of later impressions, by the weights of a checkpoint in sharded form."""
    ranker = plain_ranker(dataset)
    load_gathered(shard(ranker, MIXED), ranker_weights(checkpoint))
    return predict(ranker, dataset, dataset.rows("test")[:50])[0]


def main(folder: Path, sessions: Path) -> None:
    """Train to the end, from `start.safetensors` where there is one.

    Process 0 leaves `losses.json`, the checkpoint after two epochs as `middle.safetensors`, the
    trained `weights.safetensors`, and `scores.safetensors`, those by the start's weights.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    dataset = SessionDataset.load([sessions], LENGTH)
    first, losses = dist.get_rank() == 0, []
    start, checkpoint = folder / "start.safetensors", folder / "checkpoint.safetensors"
    if start.exists():
        scores = sharded_scores(dataset, start)
        if first:
            save_tensors(folder / "scores.safetensors", {"scores": scores})
            shutil.copy(start, checkpoint)
    dist.barrier()

    def progress(share: float, loss: float) -> None:
        if first and share > 2 / 3 and not (folder / "middle.safetensors").exists():
            shutil.copy(checkpoint, folder / "middle.safetensors")
        losses.append(loss)

    ranker = train_sharded(
        plain_ranker(dataset),
        dataset,
        num_epochs=NUM_EPOCHS,
        seed=SEED,
        rows=some_rows,
        progress=progress,
        checkpoint=checkpoint,
        sharding=MIXED,
    )
    save_tensors(folder / f"weights_{dist.get_rank()}.safetensors", ranker.state_dict())
    if first:
        (folder / "losses.json").write_text(json.dumps(losses))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
