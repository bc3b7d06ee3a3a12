"""Runs every check over one ranker."""

from __future__ import annotations

from collections.abc import Iterator

from recomind.checks.contract import CHECKS, check_answers, check_deterministic, check_names
from recomind.checks.cost import check_cost
from recomind.checks.labels import check_labels
from recomind.checks.probes import make_probe
from recomind.data import SessionDataset
from recomind.errors import SchemaError
from recomind.findings import Finding, Level, finding
from recomind.streams import make_generator
from recomind.types import Catalogue, Ranker, SessionState


def check_ranker(
    ranker: Ranker,
    catalogue: Catalogue,
    *,
    state: SessionState | None = None,
    dataset: SessionDataset | None = None,
    seed: int = 0,
) -> list[Finding]:
    """Check everything that other rooms rely on.

    Args:
        ranker: ready to score (in eval mode, if it is a module).
        catalogue: the items that candidates are drawn from.
        state: [B >= 2] realistic states; not needed with a dataset. With neither, states are
            drawn at random.
        dataset: a log; its states are used, and its later days tell whether probabilities are
            inverted.
        seed: selects states, candidates and impressions.

    Returns:
        Findings in the order of the checks; none of level error where all is well. Where names
        or shapes are wrong, or scores random, that error comes alone: nothing else can be tried.
    """
    return list(_findings(ranker, catalogue, state, dataset, seed))


def require_ranker(
    ranker: Ranker,
    catalogue: Catalogue,
    *,
    state: SessionState | None = None,
    dataset: SessionDataset | None = None,
    seed: int = 0,
) -> None:
    """As `check_ranker`, silent where all is well.

    Raises:
        SchemaError: a promise is broken; the message names it, with what was seen and expected.
    """
    for found in _findings(ranker, catalogue, state, dataset, seed):
        if found.level is Level.error:
            raise found.error


def _findings(
    ranker: Ranker,
    catalogue: Catalogue,
    state: SessionState | None,
    dataset: SessionDataset | None,
    seed: int,
) -> Iterator[Finding]:
    generator = make_generator(seed)
    try:
        check_names(ranker)
        probe = make_probe(ranker, catalogue, generator, state=state, dataset=dataset)
        check_answers(ranker, probe.copy())
        check_deterministic(ranker, probe.copy())
    except SchemaError as error:
        yield Finding(Level.error, error)
        return
    for check in (*CHECKS, check_cost):
        try:
            if (found := check(ranker, probe.copy())) is not None:
                yield found
        except SchemaError as error:
            yield Finding(Level.error, error)
    if dataset is None:
        yield finding(Level.note, "no log, so probabilities were not checked")
        return
    try:
        yield from check_labels(ranker, dataset, generator)
    except SchemaError as error:
        yield Finding(Level.error, error)
