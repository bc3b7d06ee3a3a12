"""The HTTP interface over a server in this process: what is read, refused, and turned away."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from recomind.errors import ServiceError
from recomind.serving import ServingConfig
from recomind.serving.app import Service, running
from recomind.serving.http import Asked, respond_all
from recomind.serving.replica import LocalReplica
from tests.serving.processes import BODY, ask, free_port, half_sent


class Slow(LocalReplica):
    """Takes its time, and may be told to end."""

    def __init__(self, engine, seconds: float) -> None:
        super().__init__(engine)
        self.seconds, self.is_dead, self.num_starts, self.batches = seconds, False, 0, []

    def start(self):
        self.num_starts += 1
        self.is_dead = False
        return super().start()

    def answer(self, asked):
        self.batches.append(len(asked))
        time.sleep(self.seconds)
        if self.is_dead:
            raise ServiceError("a replica ended while it answered")
        return super().answer(asked)


@contextmanager
def local(replica, **settings):
    config = ServingConfig(port=free_port(), **settings)
    with running(Service([replica], config)):
        yield config.port


def together(port, num, path="/rank", body=BODY):
    """Answers to `num` requests that are sent at once."""
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(ask(port, path, body))) for _ in range(num)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def trickle(client, data):
    for byte in data:
        client.sendall(bytes([byte]))
        time.sleep(0.05)


@pytest.fixture(scope="module")
def port(engine):
    with local(LocalReplica(engine), max_body_bytes=5000, body_timeout_s=0.5) as port:
        yield port


def test_an_answer_is_the_engines(port, engine):
    status, headers, answer = ask(port, "/rank", BODY)
    assert (status, answer) == respond_all(engine, [Asked("/rank", BODY)])[0]
    assert headers["content-type"] == "application/json"
    assert ask(port, "/healthz")[::2] == (200, engine.status())


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/rank", None, 405, "/rank does not take GET"),
        ("/healthz", b"", 405, "/healthz does not take POST"),
        ("/", None, 404, "no such path"),
        ("/rank", b"{", 400, "the body is not JSON"),
        ("/rank", BODY.replace(b"true", rb'"\ud800"'), 400, "a lone surrogate"),
        ("/rank", b" " * 5001, 413, "longer than 5000 bytes"),
        ("/rank", b'{"user_id": "' + b"x" * 4000 + b'"}', 400, "user_id; got: 'xxx"),
    ],
)
def test_what_is_wrong_has_its_status(port, path, body, status, text):
    got, headers, answer = ask(port, path, body)
    assert got == status
    assert text in answer["error"]
    assert len(answer["error"]) < 500
    assert ("allow" in headers) == (status == 405)


def test_a_body_in_chunks_is_measured_as_it_comes(port):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST /rank HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"1770\r\n" + b" " * 6000 + b"\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_half_a_body_is_given_up_and_holds_no_place(port):
    held = half_sent(port, 40)
    try:
        assert ask(port, "/healthz")[0] == 200
        assert ask(port, "/rank", BODY)[0] == 200
        for each in held:
            each.settimeout(5.0)
            assert each.recv(100).startswith(b"HTTP/1.1 408")
            while each.recv(1000):  # and the connection is closed
                pass
    finally:
        for each in held:
            each.close()


def test_half_a_head_is_given_up_however_it_trickles(port):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(5.0)
        begin = time.monotonic()
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            trickle(client, b"POST /rank HTTP/1.1\r\n" + b"x" * 1000)
        assert time.monotonic() - begin < 4.0


def test_what_waits_is_scored_together(engine):
    slow = Slow(engine, 0.3)
    with local(slow) as port:
        assert [status for status, *_ in together(port, 12)] == [200] * 12
    assert sum(slow.batches) == 12
    assert max(slow.batches) >= 6


def test_a_full_queue_turns_away_at_once_and_answers_whom_it_let_in(engine):
    with local(Slow(engine, 0.5), max_queued_requests=4, max_batch_size=2) as port:
        refusals = []
        found = []

        def client() -> None:
            begin = time.monotonic()
            status, headers, _ = ask(port, "/rank", BODY)
            found.append(status)
            if status == 503:
                refusals.append((time.monotonic() - begin, int(headers["retry-after"])))

        threads = [threading.Thread(target=client) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(found) == {200, 503}
        assert 4 <= found.count(200) <= 8
        assert max(seconds for seconds, _ in refusals) < 1.5
        assert min(seconds for _, seconds in refusals) >= 1
        assert ask(port, "/healthz")[0] == 200


def test_who_is_refused_is_told_at_once_and_read_again_a_second_later(engine):
    with local(Slow(engine, 4.0), max_queued_requests=1, max_batch_size=1) as port:
        others = [threading.Thread(target=lambda: ask(port, "/rank", BODY)) for _ in range(2)]
        for each in others:
            each.start()
        time.sleep(0.5)
        rude = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            rude.request("POST", "/rank", BODY)
            refusal = rude.getresponse()
            assert (refusal.status, refusal.getheader("retry-after")) == (503, "1")
            refusal.read()
            told = time.monotonic()
            rude.request("GET", "/healthz")
            assert rude.getresponse().read()
            assert time.monotonic() - told > 0.7
        finally:
            rude.close()
        for each in others:
            each.join()


def test_who_would_wait_too_long_is_turned_away_before(engine):
    slow = Slow(engine, 0.4)
    with local(slow, max_batch_size=1, request_timeout_s=2.4) as port:
        for _ in range(9):  # the service learns how long one takes
            ask(port, "/rank", BODY)
        found = [status for status, *_ in together(port, 12)]
    assert 1 <= found.count(200) <= 7
    assert found.count(503) == 12 - found.count(200)
    assert sum(slow.batches) == 9 + found.count(200)  # nobody was let in and then left waiting


def test_an_answer_that_comes_too_late_is_none(engine):
    with local(Slow(engine, 1.5), request_timeout_s=0.3) as port:
        begin = time.monotonic()
        status, _, answer = ask(port, "/rank", BODY)
        assert time.monotonic() - begin < 1.2
        assert status == 503
        assert "request_timeout_s" in answer["error"]


def test_a_replica_that_ends_is_started_again_and_nothing_is_lost(engine):
    slow = Slow(engine, 0.2)
    with local(slow) as port:
        slow.is_dead = True
        assert [status for status, *_ in together(port, 5)] == [200] * 5
    assert slow.num_starts == 2


def test_what_is_in_flight_is_answered_at_the_end(engine):
    found = []
    with local(Slow(engine, 0.6)) as port:
        client = threading.Thread(target=lambda: found.extend(together(port, 6)))
        client.start()
        time.sleep(0.3)
    client.join()
    assert [status for status, *_ in found] == [200] * 6


def get_text(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_metrics_count_what_was_asked(engine):
    with local(LocalReplica(engine)) as port:
        ask(port, "/rank", BODY)
        ask(port, "/recommend", BODY)
        ask(port, "/rank", b"{")
        status, text = get_text(port, "/metrics")
    assert status == 200
    for line in (
        'recomind_requests_total{path="/rank",status="200"} 1.0',
        'recomind_requests_total{path="/rank",status="400"} 1.0',
        'recomind_request_seconds_count{path="/recommend"} 1.0',
        'recomind_rows_total{kind="scored"} 2.0',
        'recomind_rows_total{kind="fallen_back"} 0.0',
        "recomind_best_score_count 2.0",
        "recomind_replicas_ready 1.0",
        "recomind_waiting 0.0",
    ):
        assert line in text.splitlines()


def test_the_protocols_health_and_metadata(port, engine):
    assert ask(port, "/v2/health/live")[::2] == (200, {"live": True})
    assert ask(port, "/v2/health/ready")[::2] == (200, {"ready": True})
    assert ask(port, "/v2/models/recomind/ready")[0] == 200
    assert ask(port, "/v2")[2]["name"] == "recomind"
    assert ask(port, "/v2/models/recomind")[2]["versions"] == [engine.identity]
    assert ask(port, "/v2/models/recomind/infer", b"{}")[0] == 400


def test_the_interface_is_published(port, engine):
    status, _, document = ask(port, "/openapi.json")
    assert status == 200
    request = document["components"]["schemas"]["RankRequest"]
    assert request["properties"]["item_ids"]["maxItems"] == engine.schema.max_candidates
    assert json.dumps(document).count("$ref") > 3
