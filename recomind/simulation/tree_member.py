"""The member of the training simulator that is made otherwise than the others: trees.

Rankers of one architecture err alike where the logs have hardly been, and then their disagreement
is no warning: a policy finds what all of them promise and nobody does. Trees over counted features
seldom promise the same, so that the worst of all members is a bound that holds more often
(docs/adr/0021). Ours; a pessimistic model of several members is MOReL's (arXiv:2005.05951) and
MOPO's (arXiv:2005.13239) idea.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recomind.artifacts import Manifest
from recomind.data import SessionDataset
from recomind.simulation.config import SimulatorConfig
from recomind.simulation.recency import member_rows
from recomind.simulation.trees import TreeModels, fit_trees
from recomind.types import Catalogue, SessionState

_EXTRA = "tree_member"


@dataclass(frozen=True, slots=True)
class TreeMember:
    """Responses and leaving by trees, in the form of one member of an ensemble.

    Args:
        models: of some tasks, and of leaving.
        columns: of the models' tasks among all H.
    """

    models: TreeModels
    columns: list[int]

    def responses(
        self,
        members_EBH: Tensor,
        state: SessionState,
        item_id: Tensor,
        catalogue: Catalogue,
        summary_BM: Tensor,
    ) -> Tensor:
        """[B, H] probabilities; the mean of the other members for tasks without a model.

        A mean neither lowers nor raises the mean, the least and the most of all members.
        """
        found_BH = members_EBH.mean(0)
        found_BH[:, self.columns] = self.models.responses(state, item_id, catalogue, summary_BM)
        return found_BH

    def hazard(self, summary_BM: Tensor) -> Tensor:
        """[B] probability of leaving, from the summary of a state."""
        return torch.from_numpy(self.models.predict("leave", summary_BM.numpy()))


def fit_member(
    dataset: SessionDataset, config: SimulatorConfig, rewarded: Collection[str] | None, seed: int
) -> TreeModels | None:
    """Fit its trees to the training users, where the settings ask for them.

    Args:
        dataset: the sessions.
        config: settings of the simulator.
        rewarded: tasks that the reward weighs, which are those that a policy can exploit; all
            tasks where None.
        seed: determines all randomness.
    """
    if not config.tree_member:
        return None
    tasks = tuple(t for t in dataset.tasks if rewarded is None or t in rewarded)
    rows, weights, later = member_rows(dataset)
    return fit_trees(dataset, rows, later, seed, config.item_categories, weights, tasks)


def save_member(staging: Path, models: TreeModels | None, manifest: Manifest) -> None:
    """Write the trees beside the other models; the manifest says which there are."""
    if models is not None:
        manifest.extra[_EXTRA] = {"tasks": list(models.tasks), "constants": models.constants}
        models.save(staging)


def load_member(folder: Path, extra: Mapping[str, Any], categories: bool) -> TreeMember | None:
    """What `save_member` wrote into an artifact; None where there are no trees."""
    found = extra.get(_EXTRA)
    if found is None:
        return None
    tasks = tuple(found["tasks"])
    models = TreeModels.load(folder, tasks, found["constants"], categories)
    return TreeMember(models, [extra["tasks"].index(task) for task in tasks])
