"""The trained policy as a production ranker, and its artifact.

catalogue.safetensors, catalogue.json    the items' latest content
weights.safetensors                      the whole Q network, the ranker included
manifest.json                            kind "scorer"; extra holds all that rebuilds the network,
                                         and the release gate's verdict

Symbols: `B` states, `K` candidates, `L` history events, `U` user features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recomind.artifacts import Manifest, read_manifest, save_tensors, write_artifact
from recomind.data import TableCatalogue, materialise
from recomind.errors import ArtifactError, SchemaError
from recomind.policy import PolicyConfig, QNetwork, support_mask
from recomind.policy.network import QEncoding
from recomind.ranker import RankerConfig, SessionRanker, load_weights
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
        self.catalogue, self.feedback_tasks = network.frozen.catalogue, network.tasks
        self.history_length = network.frozen.config.history_length
        self.num_user_features = network.frozen.num_user_features
        self.user_feature_names = tuple(user_feature_names)
        self.released, self.reasons = released, tuple(reasons)

    @torch.no_grad()
    def encode_state(self, state: SessionState) -> QEncoding:
        """Everything of `state` [B] that scoring needs.

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
        return self.network.encode_state(state)

    def score(self, encoding: QEncoding, item_id: Tensor) -> Tensor:
        """Q [B, K, 1] of `item_id` [B, K], in units of reward."""
        return self.values(encoding, item_id)[0][..., None]

    def utility(self, encoding: QEncoding, item_id: Tensor) -> Tensor:
        """The frozen ranker's expected reward of the next response [B, K]."""
        return self.values(encoding, item_id)[1]

    @torch.no_grad()
    def values(self, encoding: QEncoding, item_id: Tensor) -> tuple[Tensor, Tensor]:
        """Q [B, K] and utility [B, K] of `item_id` [B, K]."""
        return self.network.score_encoded(encoding, item_id)

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
        q_BK, utility_BK = self.values(self.encode_state(state), item_id)
        return order_slots(q_BK, self.supported(utility_BK, mask), utility_BK, item_id, mask), (
            q_BK.masked_fill(~mask, -torch.inf)
        )

    def supported(self, utility_BK: Tensor, mask_BK: Tensor) -> Tensor:
        """Candidates [B, K] bool inside the policy's support constraint."""
        return support_mask(utility_BK, mask_BK, self.network.config.support_ratio)


def order_slots(
    q_BK: Tensor, supported_BK: Tensor, utility_BK: Tensor, item_id_BK: Tensor, mask_BK: Tensor
) -> Tensor:
    """Slots [B, K] int64: supported by Q, others by utility, padding; ties by item id."""
    if not bool((q_BK.isfinite() & utility_BK.isfinite())[mask_BK].all()):
        raise SchemaError(
            "a candidate's score is not a finite number",
            mend="look for NaN in the state's features or in the weights",
        )
    key_BK = torch.where(supported_BK, q_BK, utility_BK)
    tier_BK = 2 - mask_BK.int() - supported_BK.int()
    order_BK = item_id_BK.argsort(dim=1, stable=True)
    by_key = key_BK.gather(1, order_BK).argsort(dim=1, descending=True, stable=True)
    order_BK = order_BK.gather(1, by_key)
    by_tier = tier_BK.gather(1, order_BK).argsort(dim=1, stable=True)
    return order_BK.gather(1, by_tier)


def export_policy(
    folder: Path,
    network: QNetwork,
    *,
    manifest_config: Mapping[str, Any],
    seed: int,
    released: bool,
    reasons: Sequence[str],
    user_feature_names: Sequence[str],
    inputs: Mapping[str, str] | None = None,
    max_catalogue_items: int = 5_000_000,
) -> Manifest:
    """Write an artifact of kind "scorer" from a trained network.

    Args:
        folder: where it goes.
        network: the trained Q network; its catalogue's latest content is copied.
        manifest_config: resolved config to keep.
        seed: of the run.
        released: the release gate's verdict.
        reasons: why it was not released.
        user_feature_names: U names, in the order of `SessionState.user_features`.
        inputs: name -> identity of the artifacts that the network came from.
        max_catalogue_items: a larger catalogue is refused.

    Returns:
        The manifest as written.

    Raises:
        ConfigError: the catalogue is too large to be copied.
        SchemaError: names for another number of user features.
    """
    extra = rebuild_recipe(network, user_feature_names)
    catalogue = materialise(network.frozen.catalogue, max_catalogue_items)
    manifest = Manifest(
        kind=KIND,
        seed=seed,
        config=dict(manifest_config),
        inputs=dict(inputs or {}),
        extra=extra | {"released": bool(released), "reasons": list(reasons)},
    )
    with write_artifact(folder, manifest) as staging:
        catalogue.save(staging)
        save_tensors(staging / WEIGHTS, network.state_dict())
    return manifest


def rebuild_recipe(network: QNetwork, user_feature_names: Sequence[str]) -> dict[str, Any]:
    """What `load_scorer` needs beside the weights and the catalogue, as JSON."""
    ranker = network.frozen
    if len(user_feature_names) != ranker.num_user_features:
        raise SchemaError(
            "one name a user feature",
            got=list(user_feature_names),
            expected=f"{ranker.num_user_features} names",
        )
    return {
        "tasks": list(ranker.tasks),
        "num_user_features": ranker.num_user_features,
        "user_feature_names": list(user_feature_names),
        "ranker_config": dataclasses.asdict(ranker.config),
        "policy_config": dataclasses.asdict(network.config),
        "reward_weights": dict(zip(ranker.tasks, network.weights_H.tolist(), strict=True)),
    }


def load_scorer(folder: Path) -> PolicyScorer:
    """Read a scorer, ready to rank; needs neither Ray nor the training code.

    Raises:
        ArtifactError: absent, damaged, or weights that do not fit what the manifest says.
    """
    folder = Path(folder)
    extra = read_manifest(folder, KIND).extra
    catalogue = TableCatalogue.load(folder)
    try:
        network = _untrained_network(extra, catalogue)
        names, released = extra["user_feature_names"], extra["released"]
        reasons = extra["reasons"]
    except (KeyError, TypeError) as error:
        raise ArtifactError("incomplete scorer manifest", got=f"{folder}: {error!r}") from error
    load_weights(network, folder / WEIGHTS)
    network.share_items(catalogue).eval().requires_grad_(False)
    return PolicyScorer(network, names, released=released is True, reasons=reasons)


def _untrained_network(extra: Mapping[str, Any], catalogue: TableCatalogue) -> QNetwork:
    config = RankerConfig(**extra["ranker_config"])
    with torch.random.fork_rng(devices=[]):
        ranker = SessionRanker(catalogue, tuple(extra["tasks"]), extra["num_user_features"], config)
        return QNetwork(ranker, extra["reward_weights"], PolicyConfig(**extra["policy_config"]))
