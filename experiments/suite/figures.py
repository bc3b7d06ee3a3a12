"""What a finished run of the suite says, and what several say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from experiments.records import Records
from experiments.result import figure, over_seeds
from experiments.suite.references import METRIC
from recomind.evaluation.config import GateConfig
from recomind.evaluation.gate import decide
from recomind.evaluation.report import read_report
from recomind.evaluation.rollout import rollout
from recomind.pipeline import Run
from recomind.pipeline.loading import load_pool
from recomind.streams import draw_seeds, make_generator
from simulators.suite.references import references
from simulators.suite.satiation import Satiation
from simulators.suite.world import SuiteWorld
from simulators.suite.worlds import CHOSEN_ON, HELD_BACK

_REFERENCE_SESSIONS = 400
_NO_HEADROOM = 0.02  # share of the myopic reward: below it a share of it means nothing
# How long a run trains and is judged, the briefest first.
SIZES = ("pilot", "brief_density", "brief", "brief_trees", "full")
_PREFIX = {"world": "", "simulator": "sim_", "holdout_simulator": "holdout_"}
_GATE = GateConfig()
Figures = dict[str, Any]


def of_run(run: Run) -> Figures:
    """Means of all arms in world and simulators, lifts, verdicts, and the headroom of its pools.

    `lift` is over the ranker refit on the same logs, `rl_lift` over that ranker in the policy's
    support. `released` is the verdict of the world, `released_on_logs` the one that a company
    without a world would get, whose hold-out simulator decides.
    """
    report = read_report(run.folder / "report")
    found: Figures = {"released": int(report["gate"]["released"])}
    for entry in report["environments"]:
        if entry["kind"] in _PREFIX:
            found |= _of_environment(entry, _PREFIX[entry["kind"]])
    blind = [entry for entry in report["environments"] if entry["kind"] != "world"]
    found["released_on_logs"] = int(decide(blind, run.config.gate)["released"])
    return found | _headroom(run, found)


def _of_environment(entry: Mapping[str, Any], prefix: str) -> Figures:
    found = {f"{prefix}mean.{arm}": of[METRIC]["mean"] for arm, of in entry["arms"].items()}
    found |= {f"{prefix}outside.{arm}": v for arm, v in entry.get("outside_share", {}).items()}
    for name in ("lift", "rl_lift"):
        lift = entry[name].get(METRIC, {"value": None, "low": None, "high": None})
        found |= {f"{prefix}{name}": lift["value"]}
        found |= {f"{prefix}{name}.{bound}": lift[bound] for bound in ("low", "high")}
    return found


def _headroom(run: Run, found: Figures) -> Figures:
    """The references on the run's last pools, and the share of their distance that was won."""
    world = cast("SuiteWorld | Satiation", run.require_world("suite"))
    pool = load_pool(run.rounds[-1], run.policy_index)
    seeds = draw_seeds(_REFERENCE_SESSIONS, make_generator(904))
    means = {
        arm: float(rollout(world, policy, pool, seeds).reward.mean())
        for arm, policy in references(world).items()
    }
    distance = means["look_ahead"] - means["myopic"]
    won = (found["mean.policy"] - found["mean.ranker"]) / distance if distance else None
    known = won is not None and distance > _NO_HEADROOM * means["myopic"]
    return {f"reference.{arm}": mean for arm, mean in means.items()} | {
        "headroom_won": won if known else None
    }


def pool(records: Records) -> dict[str, dict]:
    """By world, logs and round; over the worlds of each half; and the headline of the issue."""
    settings = _settings(records)
    found: dict[str, dict] = {}
    for setting, by_world in settings.items():
        for world, runs in by_world.items():
            found |= _of_world(f"{world}.{setting.name}", runs)
        found |= _of_halves(setting.name, by_world)
    if settings:
        found |= _headline(max(settings), settings[max(settings)])
    return {name: each for name, each in found.items() if each["value"] is not None}


class Setting(NamedTuple):
    """What the runs of several worlds and seeds have in common; the largest is the headline."""

    size: int  # its place among `SIZES`
    events: int
    round: int
    logs: str

    @property
    def name(self) -> str:
        """`<logs>.round_<r>`, and for other runs than those that judge what they are."""
        size = SIZES[self.size]
        judges = size == "full" and self.events == 500_000
        return f"{self.logs}.round_{self.round}" + ("" if judges else f".{size}_{self.events}")


ByWorld = Mapping[str, Sequence[Figures]]  # the seeds that have run


def _settings(records: Records) -> dict[Setting, dict[str, list[Figures]]]:
    """The figures that were kept; of a repeated run the later ones."""
    made = {tuple(r[n] for n in records.names): r["figures"] for r in records.all()}
    found: dict[Setting, dict[str, list[Figures]]] = {}
    for (size, world, logs, events, index, _seed), figures in sorted(made.items()):
        setting = Setting(SIZES.index(size), events, index, logs)
        found.setdefault(setting, {}).setdefault(world, []).append(figures)
    return found


def _of_world(at: str, runs: Sequence[Figures]) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for what in ("lift", "rl_lift", "headroom_won", "optimism", "holdout_optimism"):
        found[f"{what}.{at}"] = _over([_value(run, what) for run in runs], runs, what)
    found[f"outside_share.{at}"] = _over([run.get("sim_outside.policy") for run in runs])
    for arm in sorted({key for run in runs for key in run if "mean." in key}):
        found[f"{arm}.{at}"] = _over([run.get(arm) for run in runs], unit="rewards per session")
    return found


def _of_halves(name: str, by_world: ByWorld) -> dict[str, dict]:
    """Means over the worlds of a half, each the mean of its seeds; verdicts over all runs."""
    found = {f"{what}.{name}": each for what, each in _released(by_world).items()}
    for half, worlds in (("held_back", HELD_BACK), ("chosen_on", CHOSEN_ON)):
        inside = {world: runs for world, runs in by_world.items() if world in worlds}
        for what in ("lift", "rl_lift", "headroom_won"):
            found[f"{what}.{half}.{name}"] = _over_worlds(inside, what)
    return found


def _over_worlds(by_world: ByWorld, what: str) -> dict:
    each = {world: _mean([_value(run, what) for run in runs]) for world, runs in by_world.items()}
    known = {world: value for world, value in each.items() if value is not None}
    pooled = _over(list(known.values()))
    pooled.pop("per_seed", None)
    return pooled | {"over": "worlds", "by_world": known}


def _headline(setting: Setting, by_world: ByWorld) -> dict[str, dict]:
    """The figures without a setting in their names, which each says in `of`."""
    name, found = setting.name, _of_halves(setting.name, by_world)
    for world, runs in by_world.items():
        found |= _of_world(f"{world}.{name}", runs)
    short = {
        key.removesuffix(f".{name}"): each for key, each in found.items() if "mean." not in key
    }
    return {key: each | {"of": name} for key, each in short.items()}


def _released(by_world: ByWorld) -> dict[str, dict]:
    """Releases of a gate without a world, and how many of them are truly worse.

    `by_interval` is what a gate would release that asks only for the hold-out simulator's interval.
    """
    runs = [run for runs in by_world.values() for run in runs]
    found = {"released": figure(sum(run["released"] for run in runs), n=len(runs), unit="runs")}
    for suffix, rule in (("on_logs", _on_logs), ("by_interval", _by_interval)):
        released = [run for run in runs if rule(run)]
        wrongly = [run for run in released if run["lift"] <= 0.0]
        surely = sum(run["lift.high"] < 0.0 for run in wrongly)
        name = "wrongly_released" + ("" if rule is _on_logs else f"_{suffix}")
        found[f"released_{suffix}"] = figure(len(released), n=len(runs), unit="runs")
        found[name] = figure(len(wrongly), n=len(released), unit="runs", surely=surely)
    return found


def _by_interval(run: Mapping[str, Any]) -> bool:
    return run["holdout_lift.low"] > 0.0


def _on_logs(run: Mapping[str, Any]) -> bool:
    """The verdict of the run, and what the gate has come to ask for since the oldest of them."""
    shown = run["holdout_lift.low"] > _GATE.least_lift("holdout_simulator")
    return bool(run["released_on_logs"]) and shown and run["sim_lift.low"] > _GATE.min_lift


def _value(run: Mapping[str, Any], what: str) -> float | None:
    if what == "optimism":
        return run["sim_mean.policy"] / run["mean.policy"] if run["mean.policy"] else None
    if what == "holdout_optimism":
        return run["holdout_mean.policy"] / run["mean.policy"] if run["mean.policy"] else None
    return run[what]


def _over(
    values: Sequence[float | None],
    runs: Sequence[Figures] = (),
    what: str = "",
    unit: str = "ratio",
) -> dict:
    """Over seeds where there are several, else one run's interval over its sessions."""
    known = [value for value in values if value is not None]
    if len(known) > 1:
        return over_seeds(known, unit=unit)
    bounds = {}
    if len(runs) == 1 and f"{what}.low" in runs[0]:
        bounds = {end: runs[0][f"{what}.{end}"] for end in ("low", "high")}
        bounds["over"] = "sessions of one run"
    return figure(_mean(known), n=len(known), unit=unit, **bounds)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def table(records: Records) -> str:
    """Lift, share of the headroom, optimism and verdict without a world, for the terminal."""
    columns = ("lift", "rl_lift", "headroom_won", "optimism")
    lines = [f"{'':40s}" + "".join(f"{name:>14s}" for name in (*columns, "released"))]
    for setting, by_world in _settings(records).items():
        for world, runs in by_world.items():
            means = [_mean([_value(run, what) for run in runs]) for what in columns]
            cells = ["-" if mean is None else f"{mean:+.3f}" for mean in means]
            cells.append(f"{sum(map(_on_logs, runs))}/{len(runs)}")
            name = f"{world} {setting.name}"
            lines.append(f"{name:40s}" + "".join(f"{cell:>14s}" for cell in cells))
    return "\n".join(lines)
