"""The service as it runs: on loopback, over HTTP, and gone afterwards."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request

import pytest

pytest.importorskip("starlette", reason="Ray Serve needs starlette: pip install ray[serve]")

import ray

from recomind.errors import ConfigError
from recomind.serving import ServingConfig
from recomind.serving.app import build_app, serving
from recomind.serving.http import respond
from tests.serving.conftest import write_scorer
from tests.serving.test_request import GOOD


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def call(address, path, body=None):
    request = urllib.request.Request(address + path, data=body)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.mark.slow
def test_the_service_answers_over_http_and_stops(scorer_folder, engine):
    config = ServingConfig(port=free_port(), num_cpus=0.5, max_body_bytes=2000)
    ours = ray.is_initialized()
    with serving(scorer_folder, config) as address:
        assert address == f"http://127.0.0.1:{config.port}"
        assert call(address, "/healthz") == (200, engine.status())
        body = json.dumps(GOOD).encode()
        assert call(address, "/rank", body) == respond(engine, "POST", "/rank", body)
        status, answer = call(address, "/rank", b'{"user_id": "x"}')
        assert (status, "user_id; got: 'x'" in answer["error"]) == (400, True)
        assert call(address, "/rank", b" " * 2001)[0] == 413
        assert call(address, "/nothing")[0] == 404
        with (
            pytest.raises(ConfigError, match="cannot listen there"),
            serving(scorer_folder, config),
        ):
            pass
        with (
            pytest.raises(ConfigError, match="this Ray serves already"),
            serving(scorer_folder, ServingConfig(port=free_port(), num_cpus=0.5)),
        ):
            pass
        assert call(address, "/healthz")[0] == 200
    assert ray.is_initialized() == ours
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{address}/healthz", timeout=5)


def test_what_cannot_be_served_is_refused_before_ray_starts(scorer_folder, tmp_path):
    folder = write_scorer(tmp_path / "scorer", released=False)
    with pytest.raises(ConfigError, match="did not let this scorer pass"):
        build_app(folder, ServingConfig())
    too_many = ServingConfig(port=free_port(), num_replicas=1000)
    with (
        pytest.raises(ConfigError, match=r"got: 1000\.0.*the CPUs that are free"),
        serving(scorer_folder, too_many),
    ):
        pass
