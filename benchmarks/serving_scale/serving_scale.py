"""Answers a second of /recommend over ten million items, and the memory that they take."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.serving_load.serving_load import free_port, load, wait_ready
from benchmarks.serving_scale.setting import make_bodies
from experiments.result import figure, write_result
from recomind.data.sources.served.decisions import read_decisions

HERE = Path(__file__).resolve().parent
SERVE = """
import sys
from pathlib import Path
from recomind.candidates import ExplorationConfig
from recomind.serving import ServingConfig
from recomind.serving.app import serve_forever
work = Path(sys.argv[1])
config = ServingConfig(
    port=int(sys.argv[2]),
    decision_log=str(work / "decisions"),
    decision_part_rows=int(sys.argv[3]),
    exploration=ExplorationConfig(epsilon=0.1),
)
serve_forever(work / "scorer", config, index_folder=work / "index")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("locust", type=Path)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--part-rows", type=int, default=20_000)
    parser.add_argument("--work", type=Path, default=Path("runs/serving_scale"))
    given = parser.parse_args()
    setting = [sys.executable, "-m", "benchmarks.serving_scale.setting", str(given.work)]
    subprocess.run(setting, check=True)
    bodies = given.work / "bodies.json"
    bodies.write_text(json.dumps(make_bodies()))
    shutil.rmtree(given.work / "decisions", ignore_errors=True)
    port = free_port()
    begin = time.monotonic()
    command = [sys.executable, "-c", SERVE, given.work, str(port), str(given.part_rows)]
    service = subprocess.Popen(command)
    try:
        wait_ready(port)
        figures = {"ready_s": figure(time.monotonic() - begin, unit="s")}
        # The first requests fill caches and pools of memory, which is no growth.
        load(given.locust, port, bodies, given.clients, 30, given.work, "/recommend")
        with Watched(service.pid) as watched:
            stats = load(
                given.locust, port, bodies, given.clients, given.seconds, given.work, "/recommend"
            )
        figures |= _figures(stats) | watched.figures()
        spent_s = watched.processor_s[-1] - watched.processor_s[0]
        answered = figures["answered"]["value"]
        figures["processor_ms.1e7"] = figure(1000 * spent_s / max(1, answered), unit="ms")
    finally:
        service.send_signal(signal.SIGTERM)
        status = service.wait(120)
    figures["exit_status"] = figure(status, unit="status")
    logged = read_decisions(given.work / "decisions").height
    figures["logged"] = figure(logged, unit="decisions")
    options = f"--seconds {given.seconds} --clients {given.clients} --part-rows {given.part_rows}"
    write_result(HERE, f"benchmarks/serving_scale/run {options}", figures, seeds=[0])


def _figures(stats: dict[str, dict[str, str]]) -> dict[str, Any]:
    answered, refused = stats.get("/recommend", {}), stats.get("refused", {})
    failed = int(answered.get("Failure Count", 0))
    per_s = float(answered.get("Requests/s", 0)) - float(answered.get("Failures/s", 0))
    return {
        "recommend_per_s.1e7": figure(per_s, unit="1/s"),
        "recommend_p50_ms.1e7": figure(float(answered["50%"]), unit="ms"),
        "recommend_p99_ms.1e7": figure(float(answered["99%"]), unit="ms"),
        "recommend_max_ms.1e7": figure(float(answered["Max Response Time"]), unit="ms"),
        "answered": figure(int(answered["Request Count"]) - failed, unit="requests"),
        "failed": figure(failed, unit="requests"),
        "refused": figure(int(refused.get("Request Count", 0)), unit="requests"),
    }


class Watched:
    """Memory of the service's processes and the machine's load, looked at every few seconds."""

    def __init__(self, pid: int, every_s: float = 5.0) -> None:
        self._pid, self._every_s = pid, every_s
        self.memory_mib: list[float] = []
        self.processor_s: list[float] = []
        self.load: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            family = _family(self._pid)
            self.memory_mib.append(sum(map(_memory_mib, family)))
            self.processor_s.append(sum(map(_processor_s, family)))
            self.load.append(os.getloadavg()[0])
            if self._is_over.wait(self._every_s):
                return

    def figures(self) -> dict[str, Any]:
        """Memory of the first and the last minute, and the most; the load of the machine."""
        num = max(1, round(60 / self._every_s))
        first, last = self.memory_mib[:num], self.memory_mib[-num:]
        return {
            "memory_mib.first": figure(sum(first) / len(first), unit="MiB"),
            "memory_mib.last": figure(sum(last) / len(last), unit="MiB"),
            "memory_mib.most": figure(max(self.memory_mib), unit="MiB"),
            "load_average": figure(sum(self.load) / len(self.load), unit="processes"),
        }


def _family(pid: int) -> list[int]:
    """A process and all that it started."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for thread in threads for child in thread.read_text().split()]
    return [pid, *(each for child in children for each in _family(child))]


def _processor_s(pid: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mib(pid: int) -> float:
    """What a process holds for itself; the mapped files of catalogue and index are not its own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
