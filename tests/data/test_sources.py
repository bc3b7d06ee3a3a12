"""Sources of a user's own, damaged KuaiRand files, and what follows from equal sessions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import torch

from recomind.artifacts import Manifest
from recomind.data import (
    Logs,
    SessionDataset,
    make_source,
    write_sessions,
)
from recomind.data.sources.kuairand import KuaiRand
from recomind.data.sources.kuairand.files import HISTORY
from recomind.errors import ConfigError, SchemaError
from recomind.plugins import VARIABLE
from recomind.ranker import RankerConfig, fit_ranker, new_ranker
from tests.data.conftest import LOG, small_catalogue, small_events, small_history, small_log
from tests.data.test_table_equal import as_shop, world_logs


@dataclass(kw_only=True)
class ToyLogs:
    """The smallest source: what docs/bring-your-own-logs.md asks of a class."""

    tasks: tuple[str, ...] = ("click", "hide")
    guarded: tuple[str, ...] = ("hide",)
    support_density: float = 0.0
    seed: int = 0

    def utility(self, reward):
        return dict(reward) or {"click": 1.0}

    def files(self):
        return [Path(__file__)]

    def read(self):
        return Logs(frame=small_events(self.seed), catalogue=small_catalogue(), tasks=self.tasks)


class Halfway:
    def read(self):
        return None


def test_a_source_of_ones_own_is_named_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    name = f"{__name__}.ToyLogs"
    source = make_source({"source": name, "seed": 3}, allowed=["tests"])
    assert source.read().events.equals(small_events(3))
    with pytest.raises(ConfigError, match=r"unknown setting 'data\.sed': did you mean 'seed'"):
        make_source({"source": name, "sed": 3}, allowed=["tests"])
    with pytest.raises(ConfigError, match="outside the allowed prefixes"):
        make_source({"source": name})


def test_a_class_that_lacks_members_is_no_source() -> None:
    with pytest.raises(ConfigError, match=r"no source of logs.*recomind\.data\.LogSource"):
        make_source({"source": f"{__name__}.Halfway"}, allowed=["tests"])


TIME = pl.col("time_ms")
SEVENTH = pl.int_range(pl.len()) == 7


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (TIME * 1000, r"'time_ms' of log_standard.* in row 0: a date past the year 9999"),
        (pl.when(SEVENTH).then(0).otherwise(TIME).alias("time_ms"), "got: 0 in row 7: 1970-01-01"),
        (
            pl.when(SEVENTH).then(2**63 - 1).otherwise(TIME).alias("time_ms"),
            "got: 9223372036854775807 in row 7: a date past the year 9999",
        ),
        (
            pl.when(SEVENTH).then(4_102_444_800_001).otherwise(TIME).alias("time_ms"),
            "in row 7: 2100-01-01",
        ),
    ],
)
def test_times_that_cannot_be_are_named_before_days_are_counted(official, changed, message):
    with pytest.raises(SchemaError, match=message):
        KuaiRand(root=official(log=small_log().with_columns(changed))).read()


def test_a_log_of_kuairand_that_is_no_text_is_named_by_line(official) -> None:
    path = Path(official()) / LOG
    lines = path.read_bytes().split(b"\n")
    lines[20] = b"\xff" + lines[20]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(SchemaError, match=rf"not UTF-8; got: .*{LOG}, line 21"):
        KuaiRand(root=str(path.parent)).read()


def test_a_history_that_is_cut_is_named(official) -> None:
    path = Path(official()) / HISTORY
    small_history().write_parquet(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(SchemaError, match=rf"cannot be read; got: .*{HISTORY}"):
        KuaiRand(root=str(path.parent)).read()


def test_other_sizes_of_kuairand_are_found_by_their_names(official, tmp_path) -> None:
    root = Path(official())
    (tmp_path / "1k").mkdir()
    for path in root.glob("*.csv"):
        (tmp_path / "1k" / path.name.replace("_pure", "_1k")).write_bytes(path.read_bytes())
    small, pure = (KuaiRand(root=str(folder)).read() for folder in (tmp_path / "1k", root))
    assert small.events.equals(pure.events)


@pytest.mark.slow
def test_kuairand_reads_as_it_did_before_there_were_tables(kuairand_root) -> None:
    """The content of the sessions, column by column.

    Equal to that of the commit before `data=table` but for running rates, which are sums of
    integers since and differ by 2.4e-7 at most.
    """
    frame = (
        KuaiRand(root=str(kuairand_root)).read().events.sort("history_id", "time_ms", "position")
    )
    digest = hashlib.sha256()
    for name in sorted(frame.columns):
        digest.update(name.encode())
        digest.update(str(frame[name].to_list()).encode())
    assert digest.hexdigest() == BEFORE


BEFORE = "35b5ce07e499cbb4ce67a08662aabdf6ebc95e8a10f40ad3ad947cb58647bc7a"


@pytest.mark.slow
def test_a_ranker_of_the_logs_read_back_is_that_of_the_worlds_own(tmp_path: Path) -> None:
    frame, world = world_logs(120)
    logs = make_source(as_shop(frame, world, tmp_path, "csv")).read()
    config = RankerConfig(
        num_epochs=1, batch_size=64, dim=8, hidden=8, num_members=2, history_length=8
    )
    weights = []
    for name, rows in (("own", frame), ("back", logs.events)):
        write_sessions(
            tmp_path / name,
            rows,
            logs.catalogue,
            tasks=world.tasks,
            manifest=Manifest(kind="sessions"),
        )
        dataset = SessionDataset.load([tmp_path / name], history_length=8)
        ranker = fit_ranker(new_ranker(dataset, config, seed=0), dataset, num_epochs=1, seed=0)
        weights.append(ranker.state_dict())
    own, back = weights
    assert own.keys() == back.keys()
    assert all(torch.equal(own[name], back[name]) for name in own)
