"""The trained policy as a production ranker, and its artifact.

catalogue.safetensors, catalogue.json    the items' latest content
weights.safetensors                      the whole Q network, the ranker included
external/                                the model of a ranker that existed already, if there is one
item_ids.parquet                         a company's ids of the rows, where the logs had them
manifest.json                            kind "scorer"; `extra` holds what rebuilds the network, and
                                         the release gate's verdict

Symbols: `B` states, `K` candidates, `L` history events, `U` user features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from recomind.aliases import as_today
from recomind.artifacts import (
    Manifest,
    NoLargerThan,
    loads,
    read_manifest,
    save_tensors,
    write_artifact,
)
from recomind.data import StoredCatalogue, load_catalogue, storable
from recomind.errors import ArtifactError, SchemaError
from recomind.export.raw import RawInputs
from recomind.policy import LoggedDensity, PolicyConfig, QNetwork, RunningQ, own_part, support_mask
from recomind.policy.network import QEncoding
from recomind.ranker import SessionRanker
from recomind.ranker.recipe import (
    build_ranker,
    config_from_json,
    config_to_json,
    load_weights,
    ranker_recipe,
)
from recomind.types import SessionState

KIND, WEIGHTS = "scorer", "weights.safetensors"


class PolicyScorer:
    """Ranks by the trained policy; implements the `Ranker` Protocol with one task.

    The only "logit" is Q, in units of reward, so that whoever sorts by `score` gets the policy's
    order. Sort by the score itself: a sigmoid of a large Q loses the differences between items.
    `rank` applies the support constraint as well, and is what should serve.

    Args:
        network: the trained Q network.
        user_feature_names: U names, in the order of `SessionState.user_features`.
        released: the release gate's verdict.
        reasons: why it was not released; empty where it was.
    """

    tasks: tuple[str, ...] = ("session_value",)

    def __init__(
        self,
        network: QNetwork,
        user_feature_names: Sequence[str] = (),
        *,
        released: bool = False,
        reasons: Sequence[str] = (),
    ) -> None:
        self.network = network
        # `rank` alone is as fast as the policy's config allows; `values` are the network's own.
        self._serving = RunningQ(network)
        self.catalogue, self.feedback_tasks = network.catalogue, network.trunk.tasks
        self.history_length = network.trunk.config.history_length
        self.num_user_features = network.trunk.num_user_features
        self.user_feature_names = tuple(user_feature_names)
        self.released, self.reasons = released, tuple(reasons)

    @torch.no_grad()
    def encode_state(self, state: SessionState, snapshot: Tensor | None = None) -> QEncoding:
        """Everything of `state` [B] that scoring needs; `snapshot` is [B].

        Raises:
            SchemaError: other user features or feedback tasks, or a longer history, than the
                policy was trained with.
        """
        got = (state.user_features.shape[-1], state.history_feedback.shape[-1])
        expected = (self.num_user_features, len(self.feedback_tasks))
        if got != expected or state.history_mask.shape[-1] > self.history_length:
            raise SchemaError(
                "states that the policy was not trained on",
                got=f"(U, H) = {got}, L = {state.history_mask.shape[-1]}",
                expected=f"(U, H) = {expected}, L <= {self.history_length}",
            )
        return self.network.encode_state(state, snapshot)

    def score(self, encoding: QEncoding, item_id: Tensor, snapshot: Tensor | None = None) -> Tensor:
        """Q [B, K, 1] of `item_id` [B, K], in units of reward."""
        return self.values(encoding, item_id, snapshot)[0][..., None]

    def utility(self, encoding: QEncoding, item_id: Tensor) -> Tensor:
        """The frozen ranker's expected reward of the next response [B, K]."""
        return self.values(encoding, item_id)[1]

    @torch.no_grad()
    def values(
        self, encoding: QEncoding, item_id: Tensor, snapshot: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Q [B, K] and utility [B, K] of `item_id` [B, K]."""
        return self.network.score_encoded(encoding, item_id, snapshot)

    def log_density(self, encoding: QEncoding, item_id: Tensor) -> Tensor | None:
        """Log-density of the logs [B, K], up to a number a state; None where none is asked for."""
        return self.network.log_density(encoding, item_id)

    def rank(self, state: SessionState, item_id: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Order the candidates as the policy acts.

        Args:
            state: [B].
            item_id: [B, K] int64.
            mask: [B, K] bool, False where the slot is padding.

        Returns:
            order: [B, K] int64, slots from best to worst: those inside the support constraint by
                Q, then the others by utility, then padding. Ties go by item id.
            scores: [B, K] float32, Q by slot (not by place); -inf in padding slots.

        Raises:
            SchemaError: a candidate's score is not finite.
        """
        order_BK, q_BK, _ = self.rank_supported(state, item_id, mask)
        return order_BK, q_BK

    def rank_supported(
        self, state: SessionState, item_id: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`rank`, and which candidates [B, K] bool are inside the support constraint."""
        encoding = self.encode_state(state)
        q_BK, utility_BK = self._serving.score_encoded(encoding, item_id)
        allowed_BK = self.supported(utility_BK, mask, self.log_density(encoding, item_id))
        order_BK = order_slots(q_BK, allowed_BK, utility_BK, item_id, mask)
        return order_BK, q_BK.masked_fill(~mask, -torch.inf), allowed_BK

    def supported(
        self, utility_BK: Tensor, mask_BK: Tensor, log_density_BK: Tensor | None
    ) -> Tensor:
        """Candidates [B, K] bool inside the policy's support constraint."""
        config = self.network.config
        return support_mask(
            utility_BK,
            mask_BK,
            config.support_ratio,
            log_density_BK,
            config.support_density,
            keeps_ranker=config.support_keeps_ranker,
        )


def order_slots(
    q_BK: Tensor, supported_BK: Tensor, utility_BK: Tensor, item_id_BK: Tensor, mask_BK: Tensor
) -> Tensor:
    """Slots [B, K] int64: supported by Q, others by utility, padding; ties by item id."""
    if not bool((q_BK.isfinite() & utility_BK.isfinite())[mask_BK].all()):
        raise SchemaError(
            "a candidate's score is not a finite number",
            mend="look for NaN in the state's features or in the weights",
        )
    return ordered_slots(q_BK, supported_BK, utility_BK, item_id_BK, mask_BK)


def ordered_slots(
    q_BK: Tensor, supported_BK: Tensor, utility_BK: Tensor, item_id_BK: Tensor, mask_BK: Tensor
) -> Tensor:
    """`order_slots` of finite scores, free of branches: what an exported graph computes too."""
    key_BK = torch.where(supported_BK, q_BK, utility_BK)
    tier_BK = 2 - mask_BK.int() - supported_BK.int()
    order_BK = item_id_BK.argsort(dim=1, stable=True)
    by_key = key_BK.gather(1, order_BK).argsort(dim=1, descending=True, stable=True)
    order_BK = order_BK.gather(1, by_key)
    by_tier = tier_BK.gather(1, order_BK).argsort(dim=1, stable=True)
    return order_BK.gather(1, by_tier)


@dataclass(kw_only=True, slots=True)
class ExportRecord:
    """The facts about a run that go into the manifest of its scorer."""

    config: Mapping[str, Any]  # the resolved config of the run
    seed: int  # the run's; the golden requests follow from it
    released: bool  # the release gate's verdict
    reasons: Sequence[str]  # why it was not released; empty where it was
    user_feature_names: Sequence[str]  # U names, in the order of `SessionState.user_features`
    inputs: Mapping[str, str] = field(default_factory=dict)  # name -> identity of an artifact
    judged: str = ""  # identity of the policy that the gate judged
    raw: RawInputs = field(default_factory=RawInputs)  # ids and scaling of the raw logs


def export_policy(
    folder: Path, network: QNetwork, record: ExportRecord, *, max_catalogue_items: int = 5_000_000
) -> Manifest:
    """Write an artifact of kind "scorer" from a trained network.

    Args:
        folder: where it goes.
        network: the trained Q network; its catalogue's latest content and the model of an
            external ranker are copied.
        record: facts about the run for the manifest.
        max_catalogue_items: a larger catalogue is refused.

    Returns:
        The manifest as written.

    Raises:
        ConfigError: the catalogue is too large to be copied, or the ranker cannot be.
        SchemaError: the number of names is not that of the user features.
    """
    names = list(record.user_feature_names)
    if len(names) != network.trunk.num_user_features:
        expected = f"{network.trunk.num_user_features} names"
        raise SchemaError("each user feature needs one name", got=names, expected=expected)
    catalogue = storable(network.catalogue, max_catalogue_items)
    verdict = {
        "released": bool(record.released),
        "reasons": list(record.reasons),
        "judged": record.judged,
    }
    manifest = Manifest(
        kind=KIND, seed=record.seed, config=dict(record.config), inputs=dict(record.inputs)
    )
    with write_artifact(folder, manifest) as staging:
        manifest.extra = verdict | rebuild_recipe(network, staging) | {"user_feature_names": names}
        manifest.extra |= record.raw.save(staging)
        catalogue.save(staging)
        save_tensors(staging / WEIGHTS, network.state_dict())
    return manifest


def rebuild_recipe(network: QNetwork, staging: Path) -> dict[str, Any]:
    """What `load_scorer` needs beside weights and catalogue; external models go to `staging`."""
    weights, effects = network.weights_H.tolist(), network.effects_NE
    return {
        "ranker": ranker_recipe(network.frozen, staging),
        "trunk": ranker_recipe(network.trunk, staging),
        "policy_config": config_to_json(network.config),
        "reward_weights": dict(zip(network.tasks, weights, strict=True)),
        "effects_shape": None if effects is None else list(effects.shape),
    }


@loads("scorer", mend="run `recomind export` again")
def load_scorer(folder: Path) -> PolicyScorer:
    """Read a scorer, ready to rank; needs neither Ray nor the training code.

    Raises:
        ArtifactError: absent, damaged, or weights that do not fit what the manifest says.
    """
    folder = Path(folder)
    extra, catalogue = read_manifest(folder, KIND).extra, load_catalogue(folder)
    try:
        network = _untrained_network(extra, catalogue, folder)
        names, released = extra["user_feature_names"], extra["released"]
        reasons = extra["reasons"]
    except KeyError as error:
        raise ArtifactError("incomplete scorer manifest", got=f"{folder}: {error!r}") from error
    load_weights(network, folder / WEIGHTS)
    network.share_items(catalogue).eval().requires_grad_(False)
    return PolicyScorer(network, names, released=released is True, reasons=reasons)


def _untrained_network(
    extra: Mapping[str, Any], catalogue: StoredCatalogue, folder: Path
) -> QNetwork:
    settings = as_today({"policy": extra["policy_config"]})["policy"]
    config = config_from_json(PolicyConfig, settings)
    with torch.random.fork_rng(devices=[]):
        ranker = build_ranker(extra["ranker"], catalogue, folder)
        trunk = build_ranker(extra["trunk"], catalogue, folder)
        own = own_part(ranker)
        density = LoggedDensity.of(own) if config.support_density > 0 and own else None
        trunk, shape = cast(SessionRanker, trunk), extra.get("effects_shape")
        with NoLargerThan(folder):
            effects = None if shape is None else torch.zeros(shape[0] - 1, shape[1])
            return QNetwork(ranker, extra["reward_weights"], config, trunk, density, effects)
