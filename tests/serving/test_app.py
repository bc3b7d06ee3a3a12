"""`serving` yields a service that is ready and leaves nothing; what cannot serve is refused."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from recomind.artifacts import read_manifest
from recomind.errors import ArtifactError, ConfigError, ServiceError
from recomind.serving import ServingConfig
from recomind.serving.app import serving
from recomind.serving.http import Asked
from recomind.serving.replica import ProcessReplica, ReplicaSpec
from tests.serving.conftest import write_scorer
from tests.serving.processes import BODY, ask, free_port


def spec_of(folder: Path, **settings) -> ReplicaSpec:
    identity = read_manifest(folder, "scorer").identity
    return ReplicaSpec(scorer_folder=folder, identity=identity, config=ServingConfig(**settings))


def test_a_port_that_is_taken_is_refused_before_anything_is_loaded(scorer_folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = ServingConfig(port=taken.getsockname()[1])
        with (
            pytest.raises(ConfigError, match="cannot listen there"),
            serving(scorer_folder, config),
        ):
            pass


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"released": False}, ConfigError, "did not let this scorer pass"),
        ({"judged": "def"}, ArtifactError, "verdict is about another policy; got: def"),
        ({"judged": ""}, ArtifactError, "a verdict that does not say which; expected: abc"),
    ],
)
def test_what_the_gate_did_not_release_is_refused(tmp_path, changes, error, message):
    folder = write_scorer(tmp_path / "scorer", **changes)
    with pytest.raises(error, match=message), serving(folder, ServingConfig(port=free_port())):
        pass


def test_patience_is_a_setting_and_its_end_one_typed_error(scorer_folder):
    config = ServingConfig(port=free_port(), start_timeout_s=0.01)
    begin = time.monotonic()
    with (
        pytest.raises(ServiceError, match=r"not ready within 0\.01 s.*start_timeout_s"),
        serving(scorer_folder, config),
    ):
        pass
    assert time.monotonic() - begin < 5.0


@pytest.mark.slow
def test_a_service_keeps_the_scorer_that_it_began_with(tmp_path):
    folder = write_scorer(tmp_path / "scorer")
    replica = ProcessReplica(spec_of(folder))
    began_with = replica.start().status["scorer"]
    answered = replica.answer([Asked("/rank", BODY)])
    write_scorer(folder, reasons=["of another round"])
    assert read_manifest(folder).identity != began_with
    assert replica.answer([Asked("/rank", BODY)]).replies == answered.replies
    assert replica.pid is not None
    os.kill(replica.pid, 9)
    with pytest.raises(ServiceError, match="a replica ended while it answered; got: status -9"):
        replica.answer([Asked("/rank", BODY)])
    with pytest.raises(ServiceError, match="another scorer than the service began with"):
        replica.start()


@pytest.mark.slow
def test_the_context_yields_an_address_and_leaves_nothing(scorer_folder):
    config = ServingConfig(port=free_port())
    with serving(scorer_folder, config) as address:
        assert address == f"http://127.0.0.1:{config.port}"
        assert ask(config.port, "/rank", BODY)[0] == 200
    with pytest.raises(ConnectionRefusedError):
        ask(config.port, "/healthz")
