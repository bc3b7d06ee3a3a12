"""The density of a round's logs: the first part of `recomind train-policy` that wants it."""

from __future__ import annotations

from pathlib import Path

from recomind.cli.context import Run, is_current
from recomind.policy import fit_density, own_part
from recomind.policy.density import KIND
from recomind.ranker import load_rankers, trunk_of


def run_density(run: Run, round_index: int) -> list[Path]:
    """Write `density/` unless it is current: of all sessions so far, on the round's ranker.

    Returns:
        Its folder; none where `policy.support_density` is 0.

    Raises:
        ConfigError: the propensities of the logs are unknown.
    """
    if run.config.policy.support_density == 0.0:
        return []
    folder, ranker = run.path(KIND, round_index), run.path("ranker", round_index)
    inputs = [ranker, *run.session_folders(round_index)]
    manifest = run.manifest(KIND, "fit-density", round_index, [], inputs)
    if is_current(folder, manifest):
        return [folder]
    dataset, line = run.dataset(round_index), run.line("fit-density", round_index)
    rankers = load_rankers(ranker)
    own = own_part(rankers[0]) or trunk_of(rankers)
    density, manifest.metrics = fit_density(own, dataset, manifest.seed)
    density.save(folder, manifest)
    share = manifest.metrics["shown_above_uniform"]
    line.done(f"({share:.1%} of shown items lie above a uniform draw on later days)")
    return [folder]
