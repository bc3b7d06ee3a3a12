"""Answers a second of the service at growing numbers of clients, and what else they got."""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import torch

from benchmarks.serving_load.setting import make_bodies, write_scorer
from experiments.result import figure, write_result

HERE = Path(__file__).resolve().parent
CLIENTS = (8, 50, 200, 400)
SERVE = """
import sys
from pathlib import Path
from recomind.serving import ServingConfig
from recomind.serving.app import serve_forever
serve_forever(Path(sys.argv[1]), ServingConfig(port=int(sys.argv[2])))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("locust", type=Path)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--work", type=Path, default=Path("runs/serving_load"))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    write_scorer(given.work / "scorer")
    bodies = given.work / "bodies.json"
    bodies.write_text(json.dumps(make_bodies()))
    figures: dict[str, Any] = {}
    port = free_port()
    service = subprocess.Popen([sys.executable, "-c", SERVE, given.work / "scorer", str(port)])
    try:
        wait_ready(port)
        for num in CLIENTS:
            stats = load(given.locust, port, bodies, num, given.seconds, given.work)
            figures |= _figures(stats, num)
            print(
                num, {name: entry["value"] for name, entry in figures.items() if f".{num}" in name}
            )
    finally:
        service.send_signal(signal.SIGTERM)
        status = service.wait(60)
    rates = {num: figures[f"answers_per_s.{num}"]["value"] for num in CLIENTS}
    figures["rate_200_over_best"] = figure(rates[200] / max(rates.values()))
    figures["exit_status"] = figure(status, unit="status")
    write_result(HERE, f"benchmarks/serving_load/run --seconds {given.seconds}", figures, seeds=[0])


def _figures(stats: dict[str, dict[str, str]], num: int) -> dict[str, Any]:
    """Rates are between the first and the last request: starting 400 clients takes its time."""
    answered, refused = stats.get("/rank", {}), stats.get("refused", {})
    failed = int(answered.get("Failure Count", 0))
    count = int(answered.get("Request Count", 0)) - failed
    num_refused = int(refused.get("Request Count", 0))
    return {
        f"answers_per_s.{num}": figure(
            float(answered.get("Requests/s", 0)) - float(answered.get("Failures/s", 0)), unit="1/s"
        ),
        f"p50_ms.{num}": figure(float(answered.get("50%", "nan")), unit="ms"),
        f"p99_ms.{num}": figure(float(answered.get("99%", "nan")), unit="ms"),
        f"refused.{num}": figure(num_refused / max(1, count + num_refused)),
        f"failed.{num}": figure(failed, unit="requests"),
    }


def load(
    locust: Path, port: int, bodies: Path, num: int, seconds: int, work: Path, path: str = "/rank"
) -> dict[str, dict[str, str]]:
    """Let `num` clients ask for `seconds`; locust's statistics by name."""
    prefix = work / f"clients_{num}"
    options = ["--headless", "-u", num, "-r", num, "-t", f"{seconds}s", "--csv", prefix]
    subprocess.run(
        [locust, "-f", HERE / "locustfile.py", "-H", f"http://127.0.0.1:{port}"]
        + ["--only-summary", "--exit-code-on-error", "0", *map(str, options)],
        env=os.environ | {"BODIES": str(bodies), "ASKED": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    with Path(f"{prefix}_stats.csv").open() as file:
        return {row["Name"]: row for row in csv.DictReader(file)}


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_ready(port: int, patience_s: float = 300.0) -> None:
    """Return once the service is ready."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main()
