"""The format `ranker`: the policy as a ranker of ours, which training can go on from.

    ranker/    an artifact of kind "ranker", as `recomind train-ranker` writes it: the ensemble,
               whose first member ranks as the policy does

A policy that was not trained is its ranker, and the copy is exact. What a trained one adds stands
outside the sigmoids of the utility, in a network of its own and under a constraint over the whole
pool, so that no weights of one ranker are equal to it: it is distilled (`distilling`), from the
ranker's weights on, and the loss of doing so is measured and kept in the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recomind.artifacts import Manifest
from recomind.data import storable
from recomind.errors import ConfigError
from recomind.export.distilling import Lessons, agreement, distil, is_untrained
from recomind.export.formats import ExportJob
from recomind.export.scorer import PolicyScorer
from recomind.policy import QNetwork
from recomind.ranker import SessionRanker, save_rankers
from recomind.types import SessionState


@dataclass(frozen=True, slots=True)
class RankerFormat:
    """See the module."""

    name: str = "ranker"

    def check_possible(self, scorer: PolicyScorer) -> None:
        """Raise ConfigError unless the policy's ranker is one of ours."""
        frozen = scorer.network.frozen
        if isinstance(frozen, SessionRanker):
            return
        raise ConfigError(
            "export.target=ranker writes the policy into a ranker of ours",
            got=f"a policy on a {type(frozen).__name__}",
            expected="a policy on a ranker that `recomind train-ranker` fitted",
            mend="export.formats=[torch_module] for a torch module; "
            "export.formats=[onnx] holds a ranker of any kind with its policy",
        )

    def write(self, job: ExportJob, folder: Path) -> dict[str, Any]:
        """Write the artifact; returns how far the ranker is from the policy."""
        lessons, network = job.lessons_for(self.name), job.scorer.network
        ranker, report = as_ranker(network, lessons)
        record = job.record
        manifest = Manifest(
            kind="", seed=record.seed, config=dict(record.config), inputs=dict(record.inputs)
        )
        manifest.metrics = {name: float(value) for name, value in report.items()}
        manifest.extra = {"policy": record.judged, "released": record.released}
        catalogue = storable(network.catalogue, network.trunk.config.max_table_items)
        save_rankers(folder, [ranker, *lessons.rankers[1:]], catalogue, manifest)
        return report


def as_ranker(network: QNetwork, lessons: Lessons) -> tuple[SessionRanker, dict[str, Any]]:
    """The policy as one ranker, and how far it is from the policy on held-out states.

    Returns:
        The ranker, and `agreement` with its bound: a ranker must hold more of the policy than the
        one that it began as. `folded` says that nothing had to be learned.
    """
    frozen, weights_H = network.frozen, network.weights_H
    assert isinstance(frozen, SessionRanker)  # `check_possible` has seen to it
    ranker = frozen.copied()
    before = agreement(_logits(ranker), weights_H, lessons.held_out)
    if is_untrained(network):
        return ranker, before | {"folded": True, "passed": True}
    ranker.requires_grad_(True)
    for kept in (ranker.items, ranker.next_action):  # item vectors belong to the catalogue
        kept.requires_grad_(False)
    ranker.table_is_whole = False  # but for the vectors themselves
    distil(_logits(ranker), _learning(ranker), weights_H, lessons)
    ranker.table_is_whole = True
    ranker.requires_grad_(False).precompute_items()
    after = agreement(_logits(ranker), weights_H, lessons.held_out)
    bound = before["ndcg_at_10"]
    passed = after["ndcg_at_10"] > bound
    return ranker, after | {"ndcg_at_10_bound": bound, "folded": False, "passed": passed}


def _logits(ranker: SessionRanker) -> Any:
    def logits(state: SessionState, item_id: Tensor) -> Tensor:
        return ranker.score(ranker.encode_state(state), item_id)

    return logits


def _learning(ranker: SessionRanker) -> list[torch.nn.Parameter]:
    return [p for p in ranker.parameters() if p.requires_grad]


FORMAT = RankerFormat()
