"""Another scorer while requests come in: none is lost, every answer names what gave it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from pathlib import Path

import pytest

from recomind.errors import ConfigError
from recomind.serving import ServingConfig, load_engine
from recomind.serving.admin import read_token
from recomind.serving.app import Service, running
from recomind.serving.loading import check_released
from recomind.serving.replica import LocalReplica
from tests.serving.conftest import write_scorer
from tests.serving.processes import BODY, ask, free_port

TOKEN = "0123456789abcdef0123456789abcdef"


class LoadsLate(LocalReplica):
    """Loads its scorer when it is started, as a process does."""

    def __init__(self, folder: Path, config: ServingConfig) -> None:
        self.folder, self.config, self.is_closed = folder, config, False

    def start(self):
        self.engine = load_engine(self.folder, self.config)
        return super().start()

    def answer(self, asked):
        assert not self.is_closed
        return super().answer(asked)

    def close(self):
        self.is_closed = True


@pytest.fixture
def address(scorer_folder, tmp_path):
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    config = ServingConfig(port=free_port(), admin_token_file=str(token))

    def make(folder: Path):
        check_released(folder, config)
        return [LoadsLate(folder, config)]

    with running(Service(make(scorer_folder), config, make)):
        yield config.port


def test_a_service_follows_its_registry(scorer_folder, tmp_path):
    first = write_scorer(tmp_path / "registry" / "v1")
    second = write_scorer(tmp_path / "registry" / "v2", reasons=["another"])
    current = tmp_path / "registry" / "current"
    current.write_text("v1")
    config = ServingConfig(port=free_port(), registry=str(current.parent), registry_poll_s=0.02)
    identities = [check_released(each, config).identity for each in (first, second)]
    assert len(set(identities)) == 2

    def make(folder: Path):
        check_released(folder, config)
        return [LoadsLate(folder, config)]

    def served_within(identity: str, seconds: float = 30.0) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if ask(config.port, "/rank", BODY)[2]["scorer"] == identity:
                return True
            time.sleep(0.02)
        return False

    with running(Service(make(first), config, make, served=first.resolve())):
        assert served_within(identities[0])
        current.write_text("v2")
        assert served_within(identities[1])
        current.write_text("v1")  # roll back
        assert served_within(identities[0])


def load(port, folder, token=TOKEN, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {token}"}
    body = json.dumps({"scorer_folder": str(folder)}) if body is None else body
    connection.request("POST", "/admin/load", body, headers)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def test_a_swap_under_load_loses_nothing_and_rolls_back(address, scorer_folder, tmp_path):
    other = write_scorer(tmp_path / "other", reasons=["another"])
    first = ask(address, "/healthz")[2]["scorer"]
    answers, is_over = [], threading.Event()

    def client() -> None:
        while not is_over.is_set():
            status, _, answer = ask(address, "/rank", BODY)
            answers.append((status, answer.get("scorer")))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for each in clients:
        each.start()
    status, told = load(address, other)
    assert status == 200
    assert ask(address, "/rank", BODY)[2]["scorer"] == told["scorer"] != first
    assert ask(address, "/healthz")[2]["scorer"] == told["scorer"]
    assert load(address, scorer_folder)[0] == 200
    assert ask(address, "/rank", BODY)[2]["scorer"] == first
    is_over.set()
    for each in clients:
        each.join()
    assert {status for status, _ in answers} == {200}
    assert {scorer for _, scorer in answers} == {first, told["scorer"]}
    connection = http.client.HTTPConnection("127.0.0.1", address)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    assert 'recomind_loads_total{outcome="accepted"} 2.0' in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"released": False}, "did not let this scorer pass"),
        ({"judged": "def"}, "verdict is about another policy"),
        ({"q_offset": 1e-3}, "does not answer as it did"),
    ],
)
def test_what_may_not_serve_changes_nothing(address, tmp_path, changes, message):
    first = ask(address, "/healthz")[2]["scorer"]
    status, answer = load(address, write_scorer(tmp_path / "other", **changes))
    assert status == 409
    assert message in answer["error"]
    status, _, answer = ask(address, "/rank", BODY)
    assert (status, answer["scorer"]) == (200, first)


def test_only_who_knows_the_token_may_load(address, scorer_folder):
    assert load(address, scorer_folder, token="wrong")[0] == 401
    assert load(address, "/nowhere")[0] == 409
    for body in ("[]", '{"scorer_folder": 3}', '{"scorer_folder": "\\u0000"}', "{"):
        assert load(address, "", body=body)[0] == 400


def test_without_a_token_there_is_no_such_path(engine):
    config = ServingConfig(port=free_port())
    with running(Service([LocalReplica(engine)], config)):
        assert load(config.port, "/")[0] == 404


def test_a_token_is_long_and_its_owners_alone(tmp_path):
    path = tmp_path / "token"
    with pytest.raises(ConfigError, match="admin_token_file"):
        read_token(path)
    path.write_text(TOKEN)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=r"open to others.*mode 644.*chmod 600"):
        read_token(path)
    path.chmod(0o600)
    assert read_token(path) == TOKEN
    path.write_text("short")
    with pytest.raises(ConfigError, match="a token of 5 characters"):
        read_token(path)
