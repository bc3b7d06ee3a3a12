"""The service as it runs, in a process of its own: slow clients, too many of them, and its end."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from tests.serving.processes import BODY, ask, descendants, half_sent, listeners, service

pytestmark = pytest.mark.slow
LOOPBACK = ("0100007F:", "00000000000000000000000001000000:")


@pytest.fixture(scope="module")
def running(scorer_folder):
    with service(scorer_folder) as (process, port):
        yield process, port


def test_half_sent_bodies_hold_nobody_up(running):
    _, port = running
    held = half_sent(port, 32)
    try:
        time.sleep(0.5)
        assert ask(port, "/healthz")[0] == 200
        assert ask(port, "/rank", BODY)[0] == 200
    finally:
        for each in held:
            each.close()


def test_a_lone_surrogate_is_a_bad_request(running):
    body = BODY.replace(b"true", rb'"\ud800"')
    assert ask(running[1], "/rank", body)[0] == 400


def test_nothing_listens_beyond_loopback(running):
    process, _ = running
    found = listeners([process.pid, *descendants(process.pid)])
    assert found
    assert [address for address in found if not address.startswith(LOOPBACK)] == []


def rate(port: int, num_clients: int, seconds: float) -> tuple[float, list[float], int]:
    """Answers a second, their latencies, and how many were refused."""
    latencies, refused, wrong = [], [0], []
    end = time.monotonic() + seconds

    def client() -> None:
        while (begin := time.monotonic()) < end:
            status, headers, _ = ask(port, "/rank", BODY, timeout_s=60.0)
            if status == 200:
                latencies.append(time.monotonic() - begin)
            elif status == 503 and "retry-after" in {name.lower() for name in headers}:
                refused[0] += 1
            else:
                wrong.append(status)

    threads = [threading.Thread(target=client) for _ in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    return len(latencies) / seconds, latencies, refused[0]


def test_twenty_five_times_the_clients_do_not_stop_it(running):
    before, _, _ = rate(running[1], 8, 3.0)
    many, latencies, _ = rate(running[1], 200, 6.0)
    after, _, _ = rate(running[1], 8, 3.0)  # rivals for the cores come and go
    assert many > 0.5 * min(before, after)  # benchmarks/serving_load measures it without rivals
    assert max(latencies) < 6.0


def test_a_signal_to_end_is_obeyed_after_what_is_in_flight(scorer_folder):
    with service(scorer_folder) as (process, port):
        family = descendants(process.pid)
        statuses: list[int] = []
        many = b"[" + b",".join([BODY] * 64) + b"]"
        clients = [
            threading.Thread(target=lambda: statuses.append(ask(port, "/rank", many)[0]))
            for _ in range(16)
        ]
        for client in clients:
            client.start()
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in errors
        assert "SIGABRT" not in errors
        assert statuses == [200] * 16
        time.sleep(1.0)
        assert [pid for pid in family if os.path.exists(f"/proc/{pid}")] == []


def test_what_a_killed_service_started_ends_with_it(scorer_folder):
    with service(scorer_folder) as (process, _):
        family = descendants(process.pid)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10.0
        while alive := [pid for pid in family if os.path.exists(f"/proc/{pid}")]:
            assert time.monotonic() < deadline, alive
            time.sleep(0.1)
