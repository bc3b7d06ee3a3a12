"""What the published interface allows is answered, and what it forbids is refused."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from recomind.data.encoding import moment_of
from recomind.serving import ServingConfig
from recomind.serving.app import Service, running
from recomind.serving.http import Asked, respond_all
from recomind.serving.openapi import openapi
from recomind.serving.replica import LocalReplica
from tests.serving.processes import free_port

FEW = settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ],
)


@pytest.fixture(scope="module")
def address(engine):
    config = ServingConfig(port=free_port(), max_batch_size=3)
    with running(Service([LocalReplica(engine)], config)) as address:
        yield address


def cases(engine, mode):
    document = schemathesis.openapi.from_dict(openapi(engine.schema))
    operations = [
        document["/rank"]["POST"],
        document["/recommend"]["POST"],
        document["/healthz"]["GET"],
    ]
    assert len(list(document.get_all_operations())) == len(operations)
    kinds = [each.as_strategy(generation_mode=mode) for each in operations]
    return st.one_of(*kinds)


def times_go_back(body):
    """Whether two times of one request are not in their order."""
    for request in body if isinstance(body, list) else [body] if isinstance(body, dict) else []:
        named = [*request.get("history", []), request]
        times = [moment_of(each["time"], "UTC") for each in named if "time" in each]
        if times != sorted(times):
            return True
    return False


@pytest.mark.slow
def test_what_the_schema_allows_is_answered_as_it_says(address, engine):
    statuses = []

    @FEW
    @given(case=cases(engine, GenerationMode.POSITIVE))
    def check(case):
        assume(not times_go_back(case.body))  # which no JSON Schema can forbid
        response = case.call(base_url=address)
        case.validate_response(response)
        statuses.append(response.status_code)

    check()
    assert set(statuses) == {200}


@pytest.mark.slow
def test_what_the_schema_forbids_is_refused_as_it_says(address, engine):
    statuses = []

    @FEW
    @given(case=cases(engine, GenerationMode.NEGATIVE))
    def check(case):
        response = case.call(base_url=address)
        case.validate_response(response)
        statuses.append(response.status_code)

    check()
    assert 400 in statuses
    assert not [status for status in statuses if status >= 500]


@settings(FEW, max_examples=300)
@given(body=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode()))
def test_any_bytes_are_a_bad_request(engine, body):
    assert respond_all(engine, [Asked("/rank", body)])[0][0] == 400
