"""What answers requests: a scorer, a pool where there is one, and the check that both work."""

from __future__ import annotations

import logging
import math
import secrets
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recomind.artifacts import Manifest, read_manifest, verify_signature
from recomind.candidates import CandidatePool, CandidatesConfig, make_exploration, make_pool
from recomind.data.sources.served.decisions import catalogue_identity
from recomind.errors import ArtifactError, ConfigError, ParityError, ServiceError
from recomind.export import Golden, PolicyScorer, compare, load_scorer
from recomind.export.golden import GOLDEN, make_golden
from recomind.export.scorer import KIND
from recomind.retrieval import load_retrieval
from recomind.serving.arms import Arms
from recomind.serving.company import CompanyNames
from recomind.serving.config import ServingConfig
from recomind.serving.decisions import DecisionLog
from recomind.serving.request import RankRequest, RequestSchema, states_of
from recomind.serving.scored import CONTROL, LATE, RANKER, Counts, Scored, decisions
from recomind.streams import SessionStreams, draw_seeds, hash_int64, make_generator
from recomind.types import Candidates, SessionState

_log = logging.getLogger(__name__)


class RankingEngine:
    """Answers requests for one scorer.

    Args:
        scorer: what ranks.
        config: limits.
        pool: where candidates come from for a request that brings none.
        identity: of the scorer's artifact.
        log: keeps what `recommend` decides, where it is wanted.
        names: translates a company's ids and features.
        catalogue: identity of the catalogue, for the log.
    """

    def __init__(
        self,
        scorer: PolicyScorer,
        config: ServingConfig,
        pool: CandidatePool | None = None,
        identity: str = "",
        log: DecisionLog | None = None,
        names: CompanyNames | None = None,
        catalogue: str = "",
    ) -> None:
        self.scorer, self.pool, self.identity = scorer, pool, identity
        self.config, self.log, self._counts = config, log, Counts()
        self._catalogue, self._arms = catalogue, Arms(scorer, config)
        self._exploration = make_exploration(config.exploration)
        self._generator = torch.Generator().manual_seed(secrets.randbits(63))
        self.schema = RequestSchema.of(scorer, config, has_pool=pool is not None, names=names)

    def status(self) -> dict[str, Any]:
        """What the service says of itself once it is ready."""
        return {
            "status": "ready",
            "scorer": self.identity,
            "released": self.scorer.released,
            "reasons": list(self.scorer.reasons),
        }

    def rank(self, requests: Sequence[RankRequest]) -> list[dict[str, Any]]:
        """Answers, one a request: item ids from best to worst, and their Q.

        The scores need not fall from place to place: items outside the policy's support
        constraint come after those inside, whatever their Q.
        """
        return [
            scored.answer(row, request, self.scorer.released, self.identity)
            for part, scored in self._in_parts(requests)
            for row, request in enumerate(part)
        ]

    def recommend(self, requests: Sequence[RankRequest]) -> list[dict[str, Any]]:
        """Answers as `rank`, whose first item is chosen by exploration, and logged."""
        answers, records = [], []
        for part, scored in self._in_parts(requests):
            made = decisions(part, scored, self._exploration, self._streams(len(part)))
            for row, (request, (slot, log_propensity)) in enumerate(zip(part, made, strict=True)):
                answer = scored.answer(row, request, self.scorer.released, self.identity, slot)
                answer |= {
                    "decision_id": uuid.uuid4().hex,
                    "propensity": math.exp(log_propensity),
                    "explored": slot != int(scored.order_BK[row, 0]),
                }
                answers.append(answer)
                self._counts.explored += answer["explored"]
                if self.log is not None:
                    records.append(
                        scored.record(row, request, answer, log_propensity, self._catalogue)
                    )
        if self.log is not None and not self.log.append(records):
            self._counts.unlogged += len(records)
        return answers

    def take_counts(self) -> Counts:
        """What was done since this was last asked."""
        counts, self._counts = self._counts, Counts()
        return counts

    def _streams(self, num: int) -> SessionStreams:
        return SessionStreams(draw_seeds(num, self._generator))

    def _in_parts(
        self, requests: Sequence[RankRequest]
    ) -> Iterator[tuple[Sequence[RankRequest], Scored]]:
        size = self.schema.max_batch_size
        for begin in range(0, len(requests), size):
            part = requests[begin : begin + size]
            state = states_of(part, self.schema)
            scored = self._arms.score(state, self._candidates(part, state))
            self._counts.scored += len(part)
            self._counts.fallen_back += scored.arms.count(RANKER)
            self._counts.late += scored.reasons.count(LATE)
            self._counts.control += scored.arms.count(CONTROL)
            self._counts.best_scores += scored.score_BK.gather(1, scored.order_BK[:, :1])[
                :, 0
            ].tolist()
            yield part, scored

    def _candidates(self, requests: Sequence[RankRequest], state: SessionState) -> Candidates:
        """Pools [B, K]: the requests' own items, which are certain, or the pool's."""
        own = [request.item_ids for request in requests]
        chances: list[list[float]] = [[0.0] * len(ids or ()) for ids in own]
        rows = torch.tensor([r for r, ids in enumerate(own) if ids is None], dtype=torch.int64)
        if len(rows) and self.pool is not None:
            # The same user at the same step gets the same pool again, from any replica.
            streams = SessionStreams(hash_int64(state.user_id[rows]))
            drawn = self.pool.candidates(state[rows], streams)
            for place, row in enumerate(rows.tolist()):
                own[row] = drawn.item_id[place][drawn.mask[place]].tolist()
                chances[row] = drawn.log_propensity[place][drawn.mask[place]].tolist()
        width = max(len(ids or ()) for ids in own)
        item_id = torch.zeros(len(own), width, dtype=torch.int64)
        mask = torch.zeros(len(own), width, dtype=torch.bool)
        log_propensity = torch.zeros(len(own), width)
        for row, ids in enumerate(own):
            item_id[row, : len(ids or ())] = torch.tensor(ids or [], dtype=torch.int64)
            log_propensity[row, : len(ids or ())] = torch.tensor(chances[row])
            mask[row, : len(ids or ())] = True
        return Candidates(
            item_id=item_id, mask=mask, log_propensity=log_propensity, batch_size=[len(own)]
        )


def check_released(scorer_folder: Path, config: ServingConfig) -> Manifest:
    """The scorer's manifest, its files' hashes checked.

    Raises:
        ArtifactError: there is no scorer, or it is damaged, or its verdict is about another policy.
        ConfigError: the release gate did not let it pass, and the config does not allow that.
    """
    manifest = read_manifest(Path(scorer_folder), KIND)
    if config.key_file:
        verify_signature(Path(scorer_folder), Path(config.key_file))
    if not config.allow_unreleased:
        _check_judged(manifest)
    if manifest.extra.get("released") is not True and not config.allow_unreleased:
        raise ConfigError(
            "the release gate did not let this scorer pass",
            got=manifest.extra.get("reasons") or "released=false",
            mend="train a policy that passes, or set serving.allow_unreleased=true",
        )
    return manifest


def _check_judged(manifest: Manifest) -> None:
    """Refuse a verdict of the gate that is about another policy than the scorer's own."""
    own = {
        identity
        for name, identity in manifest.inputs.items()
        if name == "policy" or name.endswith("/policy")
    }
    judged = manifest.extra.get("judged")
    if manifest.extra.get("released") is True and judged not in own:
        raise ArtifactError(
            "the release gate's verdict is about another policy",
            got=judged or "a verdict that does not say which",
            expected=" or ".join(sorted(own)) or "the policy that the scorer was made from",
            mend="run `recomind evaluate` and `recomind export` again",
        )


def load_engine(
    scorer_folder: Path,
    config: ServingConfig,
    *,
    index_folder: Path | None = None,
    candidates: CandidatesConfig | None = None,
    newest: Callable[[Any], Tensor | None] | None = None,
    identity: str | None = None,
) -> RankingEngine:
    """Load a scorer and check it by its golden requests.

    Args:
        scorer_folder: artifact of kind "scorer".
        config: limits.
        index_folder: artifact of kind "index" over the same catalogue. Without one, only a
            catalogue that is no larger than the pool can be chosen from.
        candidates: shape of the pool; its defaults where None.
        newest: catalogue -> [F] int64, its newest items, or None where their age is unknown.
        identity: the only scorer that may be loaded; any where None.

    Raises:
        ArtifactError: a folder is absent, damaged, or of another catalogue.
        ServiceError: the folder holds another scorer than `identity`.
        ConfigError: the scorer was not released and the config does not allow that.
        ParityError: the golden requests are answered otherwise than when it was exported.
    """
    manifest = check_released(scorer_folder, config)
    if identity not in (None, manifest.identity):
        raise ServiceError(
            "the folder holds another scorer than the service began with",
            got=f"{manifest.identity} in {scorer_folder}",
            expected=identity,
            mend="restart the service to serve the new one, or put the old one back",
        )
    scorer = load_scorer(scorer_folder)
    check_golden(scorer, Path(scorer_folder) / GOLDEN, config.num_golden_requests)
    shape = candidates or CandidatesConfig()
    retrieval = None if index_folder is None else load_retrieval(index_folder, scorer.catalogue)
    pool = None
    if retrieval is not None or scorer.catalogue.num_items <= shape.num_candidates:
        fresh_item_id = None if newest is None else newest(scorer.catalogue)
        pool = make_pool(shape, scorer.catalogue, retrieval, fresh_item_id)
    log = None
    if config.decision_log:
        log = DecisionLog(
            Path(config.decision_log), config.decision_part_rows, config.decision_part_s
        )
    names = CompanyNames.load(Path(scorer_folder), manifest.extra)
    catalogue = catalogue_identity(manifest.files)
    return RankingEngine(scorer, config, pool, manifest.identity, log, names, catalogue)


def check_golden(scorer: PolicyScorer, path: Path, num: int) -> None:
    """Answer the first `num` golden requests, or, where there are none, random ones.

    Raises:
        ParityError: an answer differs from the recorded one.
        SchemaError: an answer is not a number.
    """
    if not path.is_file():
        make_golden(scorer, make_generator(0), num_states=num, num_candidates=8)
        return
    report = compare(scorer, Golden.load(path).head(num))
    if not report["passed"]:
        raise ParityError(
            "the scorer does not answer as it did when it was exported",
            got=report,
            mend="serve with the package versions of its manifest, or export it again",
        )
