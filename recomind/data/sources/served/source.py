"""`data=served`: a service's decisions and their outcomes as logs of a round."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from omegaconf import MISSING

from recomind.artifacts import Manifest, read_manifest
from recomind.data.catalogue_kinds import load_catalogue
from recomind.data.config import check_holdout, require_setting
from recomind.data.parquet import read_checked
from recomind.data.sources.finding import find_paths
from recomind.data.sources.interface import Logs
from recomind.data.sources.served.decisions import (
    catalogue_identity,
    decision_files,
    read_decisions,
)
from recomind.data.sources.served.joining import (
    JoinConfig,
    JoinCounts,
    counts_text,
    join_outcomes,
)
from recomind.data.sources.served.outcomes import OutcomeTable, read_outcomes
from recomind.data.sources.served.windows import BY_SCORER, Window
from recomind.data.times import duration_ms, to_milliseconds
from recomind.errors import ConfigError, SchemaError, did_you_mean
from recomind.streams import hash_uniform

_SCORER, _ITEM_IDS = "scorer", "item_ids.parquet"
_SALT_HOLDOUT = 71  # the hold-out users of a world's logs are chosen so too


@dataclass(kw_only=True, slots=True)
class ServedLogs:
    """What `recomind serve` logged, as docs/production.md describes it; a `LogSource`."""

    decisions: str = MISSING  # folder of the decision log: serving.decision_log
    outcomes: OutcomeTable = field(default_factory=OutcomeTable)
    scorer: str = ""  # the folder that was served; empty: the export of continue_from
    window: str = BY_SCORER  # what a round takes: one scorer's decisions, or a time such as 7d
    limit: str = "1d"  # outcomes that come later are left out
    skew: str = "60s"  # by so much an outcome's clock may be behind the service's
    gap: str = "30m"  # a longer pause ends a session that has no name
    unseen_ends: bool = False  # last decisions without an outcome were not seen: the user had left
    until: str = ""  # when outcomes were collected; empty: the latest time in either log
    unwanted: list[str] = field(default_factory=list)  # tasks that a release may not raise
    calibration_share: float = 0.15  # share of sessions, in the order of time
    test_share: float = 0.15  # share of sessions, the latest ones
    holdout_share: float = 0.2  # share of users kept for hold-out simulators
    density: float = 0.05  # policy.support_density where the policy's own is 0
    index: int = 0  # the window that is read; a run's rounds take one after another

    def __post_init__(self) -> None:
        if not self.scorer:
            raise ConfigError(
                "data.scorer is not set",
                expected="the exported folder that was served",
                mend="data.scorer=runs/<name>/export, or continue_from=runs/<name>",
            )
        check_holdout(self.holdout_share)
        shares = self.calibration_share, self.test_share
        require_setting(
            min(shares) > 0 and sum(shares) < 1,
            "calibration_share and test_share",
            shares,
            "above 0, and less than 1 together",
        )
        for name in ("limit", "skew", "gap", "window"):
            if (name, self.window) != ("window", BY_SCORER):
                duration_ms(getattr(self, name), f"data.{name}")
        for task in self.unwanted:
            if task not in self.tasks:
                raise ConfigError(
                    "data.unwanted names no task", got=task, mend=did_you_mean(task, self.tasks)
                )

    @property
    def tasks(self) -> Sequence[str]:
        """The tasks that the scorer was trained on."""
        return tuple(self._manifest().extra["trunk"]["tasks"])

    @property
    def guarded(self) -> Sequence[str]:
        """Tasks that a release may not raise."""
        return self.unwanted

    @property
    def support_density(self) -> float:
        """`density`: a decision log has exact propensities."""
        return self.density

    def utility(self, reward: Mapping[str, float]) -> dict[str, float]:
        """`reward`, or what the scorer was trained for."""
        return dict(reward or self._manifest().extra["reward_weights"])

    def files(self) -> list[Path]:
        """The log's parts and journals, and the outcomes."""
        outcomes = find_paths(self.outcomes.path, "data.outcomes.path")
        local = [Path(path) for path in outcomes if "://" not in path]
        return decision_files(Path(self.decisions)) + local

    def at_window(self, index: int) -> ServedLogs:
        """The source of another window."""
        return replace(self, index=index)

    def identity(self) -> dict[str, str]:
        """What the window's events are: a later part of the log leaves earlier windows as they are.

        Raises:
            SchemaError: there is no such window.
        """
        events, _, _ = self._events()
        digest = hashlib.sha256(events.write_json().encode()).hexdigest()
        return {"served/events": digest}

    def read(self) -> Logs:
        """Join the window's decisions with their outcomes."""
        events, counts, num_other = self._events()
        manifest, scorer = self._manifest(), Path(self.scorer)
        always = ("decisions", "joined", "outcomes")
        told = asdict(counts) | {"of_other_catalogues": num_other}
        facts: dict[str, Any] = {f"num_{k}": v for k, v in told.items() if v or k in always}
        facts["window"] = self.index
        for kept in ("scaling", "encoding"):
            if found := manifest.extra.get(f"user_feature_{kept}"):
                facts[f"user_{kept}"] = found
        has_ids = (scorer / _ITEM_IDS).is_file()
        return Logs(
            frame=events,
            catalogue=load_catalogue(scorer),
            tasks=tuple(self.tasks),
            facts=facts,
            notes=_notes(counts, num_other),
            tables={_ITEM_IDS: read_checked(scorer / _ITEM_IDS, "map of ids")} if has_ids else {},
        )

    def _events(self) -> tuple[pl.DataFrame, JoinCounts, int]:
        """The window's events, what became of its decisions, and how many fit no catalogue."""
        manifest = self._manifest()
        everything = read_decisions(Path(self.decisions))
        ours = pl.col("catalogue") == catalogue_identity(manifest.files)
        decisions = everything.filter(ours)
        outcomes = read_outcomes(self.outcomes, self.tasks)
        latest = [frame["time_ms"].max() for frame in (decisions, outcomes)]
        found = [int(time) for time in latest if isinstance(time, int)]
        now_ms = _moment(self.until) if self.until else max(found, default=0)
        events, counts = join_outcomes(
            decisions,
            outcomes,
            tasks=self.tasks,
            user_feature_names=manifest.extra["user_feature_names"],
            now_ms=now_ms,
            config=self._join_config(),
            choose=Window(self.index, self.window),
        )
        if not events.height:
            raise SchemaError(
                "no decision of the served logs has an outcome", got=counts_text(counts)
            )
        return self._with_splits(events), counts, everything.height - decisions.height

    def _join_config(self) -> JoinConfig:
        limit, skew, gap = (
            duration_ms(getattr(self, name), f"data.{name}") / 1000
            for name in ("limit", "skew", "gap")
        )
        return JoinConfig(
            limit_s=limit, skew_s=skew, session_gap_s=gap, unseen_ends=self.unseen_ends
        )

    def _with_splits(self, events: pl.DataFrame) -> pl.DataFrame:
        """Splits by the order of the sessions' beginnings, hold-out users by a hash of their id."""
        begun = events.filter(pl.col("position") == 0).sort("time_ms", "session_id")
        place = pl.DataFrame(
            {"session_id": begun["session_id"], "share": pl.arange(begun.height, eager=True)}
        ).with_columns(pl.col("share") / max(1, begun.height))
        test_from = 1 - self.test_share
        split = pl.when(pl.col("split") == "history").then(pl.lit("history"))
        split = split.when(pl.col("share") >= test_from).then(pl.lit("test"))
        calibrates = pl.col("share") >= test_from - self.calibration_share
        split = split.when(calibrates).then(pl.lit("calibration")).otherwise(pl.lit("train"))
        users = torch.from_numpy(events["user_id"].to_numpy().copy())
        holdout = hash_uniform(users, _SALT_HOLDOUT) < self.holdout_share
        joined = events.join(place, on="session_id", how="left", maintain_order="left")
        return joined.with_columns(
            split.alias("split"), pl.Series("holdout", holdout.numpy())
        ).drop("share")

    def _manifest(self) -> Manifest:
        return read_manifest(Path(self.scorer), _SCORER, verify=False)


def _moment(text: str) -> int:
    """Milliseconds since 1970 of a date or time."""
    times, _ = to_milliseconds(pl.Series("until", [text]), "", "UTC")
    if times[0] is None:
        raise ConfigError("data.until is no time", got=repr(text), expected="2026-11-30T12:00:00")
    return int(times[0])


def _notes(counts: JoinCounts, num_other: int) -> list[str]:
    """What a user should read of a join: each thing that was left out, and why."""
    said = [
        (counts.unknown, "outcomes have no decision in the log: they are left out"),
        (counts.late, "outcomes came after data.limit: they are left out"),
        (counts.early, "outcomes are older than their decision by more than data.skew"),
        (counts.pending, "decisions have no outcome yet"),
        (counts.without_outcome, "decisions never got an outcome: their sessions end before them"),
        (counts.headless, "decisions are of sessions whose beginning is not in the log"),
        (num_other, "decisions are of another catalogue than data.scorer's: they are left out"),
    ]
    return [f"{num:,} {text}" for num, text in said if num]
