"""Whether logs know more than a ranker, where it is known what the logging policy went by."""

from __future__ import annotations

from functools import cache

import pytest
from torch import Tensor

from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.data import SessionDataset
from recomind.errors import ConfigError
from recomind.policy import (
    LoggedDensity,
    PolicyConfig,
    RandomPolicy,
    constrains,
    density_evidence,
)
from recomind.simulation import collect_sessions
from recomind.streams import make_generator
from tests.policy.test_density import WORLD, dataset, fitted, loaded
from tests.simulation.tiny import NUM_ITEMS, WEIGHTS, tiny_ranker, tiny_world


@cache
def random_exposures() -> SessionDataset:
    return loaded(
        collect_sessions(
            tiny_world(),
            RandomPolicy(),
            CandidatePool(
                CandidatesConfig(num_candidates=12, num_nearest=0, num_fresh=0), NUM_ITEMS
            ),
            num_sessions=400,
            generator=make_generator(5),
            user_feature_names=WORLD.user_feature_names,
        )
    )


class Contrary(LoggedDensity):
    """The density of logs that show what users do not like."""

    def forward(self, inputs_RI: Tensor) -> Tensor:
        return -super().forward(inputs_RI)


def contrary() -> LoggedDensity:
    density, _ = fitted()
    made = Contrary(density.state_width, density.item_width)
    made.load_state_dict(density.state_dict())
    return made


def evidence(density: LoggedDensity, dataset: SessionDataset) -> dict[str, float]:
    """For a ranker of random weights, to which all that users like is news."""
    ranker = tiny_ranker(0)
    return density_evidence(density, ranker, [ranker], WEIGHTS, dataset)


def test_random_exposures_tell_whether_the_logs_know_more() -> None:
    informed = evidence(fitted()[0], random_exposures())
    assert informed["evidence_rows"] > 300
    assert informed["evidence_z"] > 2.0
    assert evidence(contrary(), random_exposures())["evidence_z"] < -2.0


def test_without_random_exposures_nothing_is_said() -> None:
    assert evidence(fitted()[0], dataset()) == {"evidence_rows": 0.0}


@pytest.mark.parametrize(
    ("settings", "found", "expected"),
    [
        ({}, {"evidence_z": 1.7}, True),
        ({}, {"evidence_z": 1.6}, False),
        ({}, {"evidence_z": -3.0}, False),
        ({}, {"evidence_rows": 99.0}, True),
        ({"support_evidence": None}, {"evidence_z": -3.0}, True),
        ({"support_evidence": -4.0}, {"evidence_z": -3.0}, True),
        ({"support_density": 0.0}, {"evidence_z": 9.0}, False),
    ],
)
def test_what_is_known_decides_whether_the_density_constrains(
    settings: dict[str, float | None], found: dict[str, float], expected: bool
) -> None:
    config = PolicyConfig(**({"support_density": 0.05} | settings))  # pyright: ignore
    assert constrains(config, found) is expected


def test_the_evidence_asked_for_is_a_number() -> None:
    with pytest.raises(ConfigError, match=r"policy.support_evidence is a number of standard"):
        PolicyConfig(support_evidence=float("nan"))
