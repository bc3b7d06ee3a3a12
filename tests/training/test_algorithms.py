"""An algorithm is found by its name, in the table or by a dotted one."""

from __future__ import annotations

import pytest

from recomind.errors import ConfigError
from recomind.plugins import VARIABLE
from recomind.training.algorithm import SessionAlgorithm
from recomind.training.algorithms import ALGORITHMS, algorithm_name
from recomind.training.session_config import RLAlgorithm, SessionConfig, find_algorithm
from tests.training.tiny import settings
from tests.training.toy_algorithm import Toy

TOY = "tests.training.toy_algorithm"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_line_of_the_table_is_an_algorithm(name: str) -> None:
    found = find_algorithm(name)
    assert isinstance(found, RLAlgorithm)
    config = found.config()
    assert isinstance(config, SessionConfig)
    assert config.algo_class is not None
    assert issubclass(config.algo_class, SessionAlgorithm)
    assert config.algo_class.metric_names


def test_no_algorithm_derives_from_another() -> None:
    made = [find_algorithm(name).config() for name in ALGORITHMS]
    classes = [config.algo_class for config in made if config.algo_class is not None]
    for kinds in (classes, [type(config) for config in made]):
        assert not [(a, b) for a in kinds for b in kinds if a is not b and issubclass(a, b)]


def test_an_algorithm_of_ones_own_is_found_by_its_dotted_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "tests")
    name = settings(algorithm=f"{TOY}.ALGORITHM").algorithm
    assert find_algorithm(name).config().algo_class is Toy


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{TOY}.NO_ALGORITHM", "training.algorithm is not an algorithm"),
        (f"{TOY}.ABSENT", "training.algorithm cannot be imported"),
        ("os.path.ALGORITHM", "training.algorithm is outside the allowed prefixes"),
        ("actor_critc", "did you mean 'actor_critic'"),
    ],
    ids=["another thing", "absent", "not trusted", "typo"],
)
def test_what_is_no_algorithm_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setenv(VARIABLE, "tests")
    with pytest.raises(ConfigError, match=message):
        find_algorithm(name)


def test_a_name_is_checked_with_the_settings() -> None:
    assert algorithm_name("dqn") == "recomind.training.dqn.algorithm.ALGORITHM"
    with pytest.raises(ConfigError, match=r"training\.algorithm; got: sarsa"):
        settings(algorithm="sarsa")
