"""From a scorer's folder to an engine that was checked: released, judged, and still in parity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from recomind.artifacts import Manifest, read_manifest, verify_signature
from recomind.candidates import CandidatesConfig, make_pool
from recomind.data.sources.served.decisions import catalogue_identity
from recomind.errors import ArtifactError, ConfigError, ParityError, ServiceError
from recomind.export import Golden, PolicyScorer, compare, load_scorer
from recomind.export.golden import GOLDEN, make_golden
from recomind.export.scorer import KIND
from recomind.retrieval import load_retrieval
from recomind.serving.company import CompanyNames
from recomind.serving.config import ServingConfig
from recomind.serving.decisions import DecisionLog
from recomind.serving.engine import RankingEngine
from recomind.serving.shadow import Shadow
from recomind.streams import make_generator


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
    log = _log_in(config.decision_log, config)
    names = CompanyNames.load(Path(scorer_folder), manifest.extra)
    catalogue = catalogue_identity(manifest.files)
    shadow = _load_shadow(config, catalogue)
    return RankingEngine(scorer, config, pool, manifest.identity, log, names, catalogue, shadow)


def _log_in(folder: str, config: ServingConfig) -> DecisionLog | None:
    if not folder:
        return None
    return DecisionLog(Path(folder), config.decision_part_rows, config.decision_part_s)


def _load_shadow(config: ServingConfig, catalogue: str) -> Shadow | None:
    """The scorer that is tried; it need not be released.

    Raises:
        ArtifactError: it is absent, damaged, or of another catalogue.
    """
    if not config.shadow_folder:
        return None
    folder = Path(config.shadow_folder)
    manifest = check_released(folder, replace(config, allow_unreleased=True))
    if catalogue_identity(manifest.files) != catalogue:
        raise ArtifactError("the shadow scorer is of another catalogue", got=folder)
    log = _log_in(config.shadow_log, config)
    assert log is not None  # the config asks for both or none
    return Shadow(load_scorer(folder), manifest.identity, log)


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
