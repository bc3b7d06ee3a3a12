"""Where the training of a ranker stands, in one safetensors file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from recomind.artifacts import brief, load_tensors, room_for, save_tensors
from recomind.errors import ArtifactError
from recomind.ranker.averaging import WeightAverage


class Checkpoint:
    """The best weights so far, and what training needs to go on after a stop.

    Args:
        path: the file; None keeps the best weights in memory only.
        module: what is trained.
        optimizers: of its parameters.
        average: of its weights.
    """

    def __init__(
        self,
        path: Path | None,
        module: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        average: WeightAverage,
    ) -> None:
        self.path, self.module, self.optimizers = path, module, optimizers
        self.average = average
        self.epoch = self.block = 0  # where training goes on
        self.share = 0.0  # the part of the training that is done
        self.best: dict[str, Tensor] = {}
        self.best_loss = float("inf")
        self.checks_without_gain = 0
        self.seeks_best = True  # False where there are no later days to judge by

    def judge(self, loss: float) -> None:
        """Keep the weights if they are the best on later days."""
        if loss < self.best_loss:
            self.best = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
            self.best_loss, self.checks_without_gain = loss, 0
        else:
            self.checks_without_gain += 1

    def take_best(self) -> None:
        """Put the best weights into the module; the last ones where nothing was judged."""
        if self.best:
            self.module.load_state_dict(self.best)

    def save(self, epoch: int, block: int, share: float) -> None:
        """Write where training stands, whole or not at all."""
        self.epoch, self.block, self.share = epoch, block, share
        if self.path is None:
            return
        place = [epoch, block, self.checks_without_gain, int(self.seeks_best)]
        place.append(self.average.num_updates)
        tensors = {
            "place": torch.tensor(place),
            "best_loss": torch.tensor(self.best_loss, dtype=torch.float64),
            "share": torch.tensor(share, dtype=torch.float64),
        }
        tensors |= {f"module.{k}": v for k, v in self.module.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        tensors |= {f"average.{i}": v for i, v in enumerate(self.average.average)}
        for number, optimizer in enumerate(self.optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                for name, value in values.items():
                    tensors[f"optimizer.{number}.{index}.{name}"] = torch.as_tensor(value)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        staged = self.path.with_suffix(".tmp")
        with room_for(self.path):
            save_tensors(staged, tensors)
            staged.replace(self.path)

    def restore(self) -> None:
        """Go on from the file, where there is one.

        Raises:
            ArtifactError: damaged, or of other settings.
        """
        if self.path is None or not self.path.is_file():
            return
        tensors = load_tensors(self.path, finite=False)
        try:
            self._take(tensors)
        except Exception as error:
            raise ArtifactError(
                "a checkpoint of a training with other settings",
                got=f"{self.path}: {brief(error)}",
                mend="delete it, and training starts from scratch",
            ) from error

    def _take(self, tensors: dict[str, Tensor]) -> None:
        place = tensors.pop("place").tolist()
        self.epoch, self.block, self.checks_without_gain, seeks, num_updates = place
        self.average.num_updates = num_updates
        for index, kept in enumerate(self.average.average):
            kept.copy_(tensors[f"average.{index}"])
        self.seeks_best, self.best_loss = bool(seeks), float(tensors.pop("best_loss"))
        self.share = float(tensors.pop("share"))
        self.module.load_state_dict(_below("module.", tensors))
        self.best = _below("best.", tensors)
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, object]] = {}
            for name, value in _below(f"optimizer.{number}.", tensors).items():
                index, _, key = name.partition(".")
                kept = int(value) if key == "step" and _plain_step(optimizer) else value
                state.setdefault(int(index), {})[key] = kept
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})

    def remove(self) -> None:
        """Training is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _plain_step(optimizer: torch.optim.Optimizer) -> bool:
    """Sparse Adam counts its steps in an int, the dense optimizers in a tensor."""
    return isinstance(optimizer, torch.optim.SparseAdam)
