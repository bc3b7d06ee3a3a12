"""The density of a round's logs; the first part of `recomind train-policy` where it is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recomind.artifacts import Manifest
from recomind.pipeline.loading import load_ensemble
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage
from recomind.policy import PolicyConfig, constrains, density_evidence, fit_density, own_part
from recomind.policy.density import KIND
from recomind.ranker import trunk_of


class FitDensity(Stage):
    """The density of all sessions so far, on the round's ranker."""

    name, kind, artifact = "fit-density", KIND, KIND

    def wanted(self, round: Round) -> bool:
        """Whether the support constraint asks for it."""
        return round.config.policy.support_density > 0.0

    def inputs(self, round: Round) -> list[Path]:
        """The rankers and all sessions so far."""
        return [round.path("ranker"), *round.session_folders]

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Fit.

        Raises:
            ConfigError: the propensities of the logs are unknown.
        """
        rankers = load_ensemble(round)
        own = own_part(rankers[0]) or trunk_of(rankers)
        dataset = round.dataset()
        density, manifest.metrics = fit_density(own, dataset, manifest.seed)
        evidence = density_evidence(density, own, rankers, round.run.weights, dataset)
        manifest.metrics |= evidence
        density.save(self.path(round), manifest)
        share = manifest.metrics["shown_above_uniform"]
        return (
            f"{share:.1%} of shown items lie above a uniform draw on later days; "
            f"{_said(evidence, round.config.policy)}"
        )


def _said(evidence: Mapping[str, float], config: PolicyConfig) -> str:
    """Whether the policy is held to the density, and why."""
    holds = "the policy is held to what they show"
    if config.support_evidence is None:
        return f"{holds} (policy.support_evidence is off)"
    num, z = evidence["evidence_rows"], evidence.get("evidence_z")
    if z is None:
        return f"{holds}: {num:,.0f} random exposures are too few to tell if it should be"
    if constrains(config, evidence):
        return f"the logs know more than the ranker (z {z:+.1f}), and {holds}"
    return f"the logs know no more than the ranker (z {z:+.1f}), which decides alone"
