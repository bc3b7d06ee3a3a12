"""What prepare-data leaves beside its artifact: nothing, however the last one ended."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recomind.config import resolve
from recomind.data.sources.table import engine, prepare
from recomind.errors import DiskFullError
from recomind.pipeline.run import Run
from recomind.pipeline.run_file import claim
from recomind.pipeline.stage import complete
from recomind.pipeline.stages.prepare_data import PrepareData
from tests.cli.test_config import composed
from tests.data.feed import feed_settings, write_feed
from tests.faults.test_checkpoints import file_size_limit

GRAIN = 32


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run over a log that goes through files, where a killed one left some."""
    for module in (engine, prepare):
        monkeypatch.setattr(module, "GRAIN", GRAIN)
    write_feed(tmp_path)
    config = resolve(composed("experiment=tiny", f"output={tmp_path}/run"))
    users = {"max_unknown": 1.0}
    config.data = feed_settings(tmp_path, partition_events=GRAIN, users=users, spill="")
    left = Path(config.output) / "spill" / "recomind-killed"
    left.mkdir(parents=True)
    (left / "raw-0.parquet").write_bytes(b"left")
    return Run(config)


def test_what_a_killed_process_spilled_is_removed_and_nothing_is_left(run: Run) -> None:
    claim(run.folder, run.config)  # the folder is a run's, whatever was spilled in it
    complete(PrepareData(), run.round(0))
    assert pl.read_parquet(run.folder / "round_0/sessions/sessions.parquet").height > GRAIN
    assert not run.spill.exists()


def test_no_room_for_what_is_spilled_is_one_error_and_leaves_nothing(run: Run) -> None:
    message = r"no room on the disk; got: .*spill.*to mend: .*the same command goes on"
    with pytest.raises(DiskFullError, match=message), file_size_limit(1000):
        complete(PrepareData(), run.round(0))
    assert not run.spill.exists()
    assert not (run.folder / "round_0").exists()
    complete(PrepareData(), run.round(0))
