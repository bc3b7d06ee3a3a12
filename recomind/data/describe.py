"""What is in logs, before anything is trained on them: counts, rates, and what looks wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from recomind.data.sessions import user_feature_columns
from recomind.data.sources.interface import Logs

_MOST_EVENTS = 2_000_000  # that are looked at
_FEW_HOLDOUT = 200  # events of hold-out users on later days that a hold-out simulator needs
_RARE, _COMMON = 0.002, 0.98  # a base rate beyond these teaches little
_MOST_ROWS = 12  # rows of a table


@dataclass(kw_only=True, slots=True)
class Suspicion:
    """Something that looks wrong, and the setting that mends it."""

    what: str
    mend: str


@dataclass(kw_only=True, slots=True)
class Description:
    """Facts by name, tables by title, and suspicions."""

    facts: dict[str, str]
    tables: dict[str, pl.DataFrame]
    survival: list[tuple[float, float]]  # position, share of sessions that reach it
    notes: list[str] = field(default_factory=list)
    suspicions: list[Suspicion] = field(default_factory=list)


def describe(logs: Logs) -> Description:
    """Describe what a source made of its logs; a log that goes through files, by some users."""
    frame, note = _in_memory(logs.frame)
    shown = frame.filter(pl.col("position") >= 0)
    starts = shown.group_by("session_id").agg(length=pl.len(), known=pl.col("left_known").last())
    found = Description(
        facts=_facts(logs, shown, starts),
        tables=_tables(logs, shown),
        survival=_survival(starts),
        notes=[*logs.notes, *note],
    )
    _suspect(found, logs, shown, starts)
    return found


def _in_memory(frame: pl.DataFrame | pl.LazyFrame) -> tuple[pl.DataFrame, list[str]]:
    """The events, those of every n-th user where they are many; and what is to be said of it."""
    if isinstance(frame, pl.DataFrame):
        return frame, []
    num = int(frame.select(pl.len()).collect().item())
    every = math.ceil(num / _MOST_EVENTS)
    if every == 1:
        return frame.collect(), []
    chosen = frame.filter(pl.col("user_id").hash(seed=0) % every == 0).collect()
    return chosen, [f"{num:,} events, of which the {chosen.height:,} of one user in {every} count"]


def _facts(logs: Logs, shown: pl.DataFrame, sessions: pl.DataFrame) -> dict[str, str]:
    seen = set(shown.filter(split="train")["item_id"].unique())
    later = shown.filter(pl.col("split") != "train")
    cold = later.filter(~pl.col("item_id").is_in(list(seen))).height
    dwell = shown["dwell_s"]
    facts = {
        "events": f"{shown.height:,}",
        "users": f"{shown['user_id'].n_unique():,}",
        "items": f"{logs.catalogue.num_items:,}, of which {shown['item_id'].n_unique():,} shown",
        "sessions": f"{sessions.height:,}",
        "events a session": f"{_mean(sessions['length']):.2f}, at most {sessions['length'].max()}",
        "sessions whose end is known": f"{_mean(sessions['known']):.1%}",
        "catalogue snapshots": f"{logs.catalogue.num_snapshots}",
        "item features": f"{len(logs.catalogue.dense_names)} numbers, "
        f"{len(logs.catalogue.categorical_names)} categories",
        "user features": str(len(user_feature_columns(shown))),
        "later events of items not seen in training": f"{cold / max(later.height, 1):.1%}",
        "dwell time": f"median {dwell.median():.3g} s, at most {dwell.max():.3g} s",
        "hold-out users' later events": f"{later.filter('holdout').height:,}",
    }
    for name, value in logs.facts.items():
        if name.startswith("num_"):
            facts[name.removeprefix("num_").replace("_", " ")] = f"{value:,}"
    return facts


def _tables(logs: Logs, shown: pl.DataFrame) -> dict[str, pl.DataFrame]:
    rates = [pl.col(task).mean().alias(task) for task in logs.tasks]
    propensity = pl.col("propensity").count() / pl.len()
    day = pl.from_epoch(pl.col("time_ms") // 1000).dt.date()
    tables = {
        "by split": shown.group_by("split", maintain_order=True).agg(
            pl.len().alias("events"), pl.col("user_id").n_unique().alias("users"), *rates
        ),
        "by position": shown.group_by("position")
        .agg(pl.len().alias("events"), *rates, pl.col("left").mean().alias("left"))
        .sort("position")
        .head(_MOST_ROWS),
    }
    if logs.facts.get("time_unit") != "relative":
        tables["by day (UTC)"] = (
            shown.group_by(day.alias("day"))
            .agg(pl.len().alias("events"), *rates, propensity.alias("propensity known"))
            .sort("day")
        )
    if missing := logs.facts.get("missing"):
        tables["missing values"] = pl.DataFrame(
            {"column": list(missing), "share missing": list(missing.values())}
        )
    return tables | _by_context(shown, rates)


def _by_context(shown: pl.DataFrame, rates: list[pl.Expr]) -> dict[str, pl.DataFrame]:
    """Rates where a 0/1 user feature is on, such as one-hot contexts."""
    flags = [n for n in shown.columns if n.startswith("u_") and shown[n].n_unique() == 2]
    rows = [
        shown.filter(pl.col(name) > shown[name].min()).select(
            pl.lit(name[2:]).alias("feature"), pl.len().alias("events"), *rates
        )
        for name in flags[: 2 * _MOST_ROWS]
    ]
    return {"where a feature is on": pl.concat(rows)} if rows else {}


def _survival(sessions: pl.DataFrame) -> list[tuple[float, float]]:
    longest = min(int(sessions["length"].quantile(0.99) or 1), 50)
    lengths = sessions["length"]
    return [(float(p), _mean(lengths > p)) for p in range(longest + 1)]


def _suspect(found: Description, logs: Logs, shown: pl.DataFrame, sessions: pl.DataFrame) -> None:
    def say(what: str, mend: str) -> None:
        found.suspicions.append(Suspicion(what=what, mend=mend))

    for task in logs.tasks:
        rate = _mean(shown[task])
        if not _RARE < rate < _COMMON:
            say(
                f"{task} has a base rate of {rate:.3%}: too few of one kind to learn from",
                f"leave it out of data.tasks and of the reward, or define {task} otherwise",
            )
    if _mean(sessions["length"]) < 1.5:
        say(
            f"{_mean(sessions['length'] == 1):.0%} of the sessions have one event",
            "raise data.sessions.gap, or name the session in data.sessions.column",
        )
    if _mean(sessions["known"]) < 0.5:
        say(
            f"the end of {1 - _mean(sessions['known']):.0%} of the sessions is unknown",
            "lower data.sessions.gap, or say who left in data.sessions.left",
        )
    held = shown.filter(pl.col("holdout") & (pl.col("split") != "train")).height
    if held < _FEW_HOLDOUT:
        say(
            f"{held} later events of hold-out users are too few for a hold-out simulator",
            "raise data.splits.holdout_share, set data.splits.calibration_from earlier, or bring "
            "more days",
        )
    if logs.facts.get("num_repeats_dropped", 0) > 0.05 * shown.height:
        say(
            f"{logs.facts['num_repeats_dropped']:,} rows repeat user, item and time of another",
            "data.log.duplicates=keep, if they are no repeats",
        )
    if shown["dwell_s"].n_unique() == 1:
        say("no dwell time is known", "name it in data.log.dwell_s")
    _suspect_times(say, logs, shown)


def _suspect_times(say: Any, logs: Logs, shown: pl.DataFrame) -> None:
    if logs.facts.get("time_unit") == "relative":
        return
    days = (shown["time_ms"] // 86_400_000).value_counts().sort("count")
    span = int(shown["time_ms"].max() - shown["time_ms"].min()) // 86_400_000 + 1  # pyright: ignore
    if days.height < span - 1:
        say(f"{span - days.height} days within the log have no event", "look for missing files")
    ms_of_day = shown["time_ms"] % 86_400_000
    if _mean(ms_of_day == 0) > 0.5:
        say(
            "most events stand at midnight: days, and no times",
            "name a finer time in data.log.time",
        )


def _mean(values: pl.Series) -> float:
    return float(values.cast(pl.Float64).mean() or 0.0)  # pyright: ignore[reportArgumentType]
