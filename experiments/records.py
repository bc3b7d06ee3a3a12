"""What each run of an experiment gave: `runs.jsonl` beside the experiment, a line a run.

The runs themselves lie in `runs/`, which no repository keeps; what they gave is kept, each with
its commit. So an experiment goes on where another machine stopped, and a run is repeated by taking
its line away.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.result import commit, figure, over_seeds

FILE = "runs.jsonl"
Run = tuple[Any, ...]  # names of presets, recipes or arms, then the seed


@dataclass(frozen=True)
class Records:
    """The records of one experiment; `names` say which run one is of, the seed among them."""

    folder: Path
    names: tuple[str, ...]

    def all(self) -> list[dict[str, Any]]:
        """Every record, in the order of the file."""
        path = self.folder / FILE
        lines = path.read_text().splitlines() if path.is_file() else []
        return [_parsed(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]

    def find(self, *run: str | int) -> dict[str, Any] | None:
        """What a run gave, or None; where it was recorded twice, the later."""
        return self._figures().get(run)

    def _figures(self) -> dict[Run, dict[str, Any]]:
        return {tuple(r[name] for name in self.names): r["figures"] for r in self.all()}

    def keep(self, run: Run, figures: Mapping[str, Any]) -> None:
        """Add a run's figures, in one write; NaN is refused."""
        record = dict(zip(self.names, run, strict=True)) | {
            "commit": commit(),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "figures": dict(figures),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / FILE).open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def absent(self, runs: Iterable[Run]) -> list[Run]:
        """Those that have not been made."""
        made = self._figures()
        return [run for run in runs if run not in made]

    def make(self, runs: Sequence[Run], one: Callable[[Run], Mapping[str, Any]], jobs: int) -> None:
        """Make runs, some at the same time, each kept as it ends; `one` gives a run's figures."""
        side_by_side(lambda run: self.keep(run, one(run)), runs, jobs)

    def of_seeds(self, seeds: Sequence[int], *run: str | int) -> dict[int, dict[str, Any]]:
        """Figures of the seeds that have run; the seed is the last of the names."""
        made = self._figures()
        return {seed: made[*run, seed] for seed in seeds if (*run, seed) in made}


def side_by_side(one: Callable[[Any], object], runs: Iterable[Any], jobs: int) -> None:
    """`one` of each, `jobs` at the same time; an error is raised once all the others have run."""
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        made = [pool.submit(one, run) for run in runs]
    for each in made:
        each.result()


def pooled(
    runs: Mapping[int, Mapping[str, Any]], name: str, what: str, seeds: Sequence[int], **more: Any
) -> dict[str, Any]:
    """A figure over the seeds that have run, with a Student interval; null for fewer than two."""
    values = [figures[name] for figures in runs.values() if name in figures]
    if len(values) < 2:
        return without(f"{len(values)} of {len(seeds)} seeds of {what} have run")
    return over_seeds(values, **more)


def pooled_or_only(runs: Mapping[int, Mapping[str, Any]], name: str, what: str) -> dict[str, Any]:
    """`pooled` over several seeds; of a single one its own interval, which is over sessions."""
    if len(runs) > 1:
        return pooled(runs, name, what, list(runs))
    (only,) = runs.values()
    # A mean may have none.
    bounds: dict[str, Any] = {end: only.get(f"{name}.{end}") for end in ("low", "high")}
    return figure(only[name], n=only["num_sessions"], over="sessions of one run", **bounds)


def over_all(
    runs: Mapping[int, Mapping[str, Any]],
    name: str,
    what: str,
    how: Callable[[list[float]], float],
    **more: Any,
) -> dict[str, Any]:
    """A number of all seeds that have run, such as the worst, without an interval."""
    values = [figures[name] for figures in runs.values() if name in figures]
    if not values:
        return without(f"no seed of {what} has run")
    return figure(how(values), n=len(values), per_seed=values, **more)


def mean(
    runs: Mapping[int, Mapping[str, Any]], name: str, what: str, **more: Any
) -> dict[str, Any]:
    """The mean of what has run, without an interval."""
    return over_all(runs, name, what, lambda values: sum(values) / len(values), **more)


def without(reason: str) -> dict[str, Any]:
    """What stands in the place of a figure without runs."""
    return {"value": None, "reason": reason}


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise SystemExit(f"{where} is no record of a run: {error}; take the line away") from error
