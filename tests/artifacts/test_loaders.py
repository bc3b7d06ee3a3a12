"""Whatever a loader meets, whoever calls it hears of it in one typed error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from recomind.artifacts import Manifest, loads, reading, write_artifact, write_json
from recomind.config import RecomindConfig
from recomind.data import (
    SessionDataset,
    TableCatalogue,
    load_catalogue,
    write_sessions,
)
from recomind.data.sessions import EVENTS
from recomind.errors import ArtifactError, RecomindError, SchemaError
from recomind.evaluation.fidelity.store import FILE, read_fidelity
from recomind.pipeline import Run
from recomind.pipeline.run_file import RUN_FILE
from tests.retrieval.conftest import tag_catalogue, tag_events
from tests.sealing import reseal

KUAIRAND = {"source": "kuairand", "root": "raw"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loaders") / "sessions"
    events, manifest = tag_events(20, 30, seed=0), Manifest(kind="sessions")
    write_sessions(folder, events, tag_catalogue(30), tasks=["like", "hide"], manifest=manifest)
    return folder


@pytest.fixture
def sessions(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "sessions"))


@pytest.mark.parametrize(
    "error", [KeyError("a"), RecursionError("deep"), MemoryError(), pl.exceptions.PanicException()]
)
def test_every_error_of_a_reader_becomes_one(error: BaseException) -> None:
    with (
        pytest.raises(ArtifactError, match="unreadable thing; got: here: "),
        reading("thing", "here"),
    ):
        raise error


def test_what_is_typed_and_what_ends_the_process_passes() -> None:
    for error in (SchemaError("as it is"), KeyboardInterrupt(), SystemExit(1)):
        with pytest.raises(type(error)), reading("thing", "here"):
            raise error


def test_the_place_is_the_first_path() -> None:
    @loads("thing", mend="make it anew")
    def load(number: int, folder: Path) -> None:
        raise ValueError(f"x{'y' * 4_000_000}{number}{folder}")

    with pytest.raises(
        ArtifactError,
        match=r"got: /here: ValueError: xy+\.\.\.y+\.\.\. \(\d+ characters\); to mend",
    ) as refused:
        load(1, Path("/here"))
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "change",
    [
        lambda events: events.drop("split"),
        lambda events: events.with_columns(pl.col("item_id").cast(pl.String)),
        lambda events: events.with_columns(pl.lit(2**40).alias("item_id")),
        lambda events: events.with_columns(pl.lit("never").alias("split")),
        lambda events: events.with_columns(pl.lit(None, dtype=pl.Int64).alias("user_id")),
        lambda events: events.head(0),
        lambda events: events.head(3),
    ],
)
def test_sessions_of_another_content_are_refused(sessions: Path, change) -> None:
    change(pl.read_parquet(sessions / EVENTS)).write_parquet(sessions / EVENTS)
    reseal(sessions)
    with pytest.raises(RecomindError):
        SessionDataset.load([sessions], history_length=4)


@pytest.mark.parametrize("place", [0, 2, -3, -6, -9])
def test_parquet_with_a_byte_changed_is_refused(sessions: Path, place: int) -> None:
    content = bytearray((sessions / EVENTS).read_bytes())
    content[place] ^= 0xFF
    (sessions / EVENTS).write_bytes(content)
    reseal(sessions)
    with pytest.raises(ArtifactError, match="sessions"):
        SessionDataset.load([sessions], history_length=4)


@pytest.mark.parametrize("names", [[], {"dense_names": 3}, {"vocab_sizes": ["a"]}, {"more": 1}])
def test_a_catalogue_of_other_names_is_refused(sessions: Path, names: object) -> None:
    path = sessions / "catalogue.json"
    known = json.loads(path.read_text())
    write_json(path, known | names if isinstance(names, dict) else names)
    with pytest.raises(RecomindError):
        load_catalogue(sessions)
    with pytest.raises(RecomindError):
        TableCatalogue.load(sessions)


def test_a_reference_to_a_store_that_is_none_is_refused(sessions: Path) -> None:
    (sessions / "catalogue_store.json").write_text('{"folder": ["a"], "version": 1, "sha256": 2}')
    with pytest.raises(ArtifactError, match="unreadable catalogue"):
        load_catalogue(sessions)


def test_fidelity_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with write_artifact(tmp_path / "fidelity", Manifest(kind="fidelity")) as staging:
        (staging / FILE).write_text("{")
    with pytest.raises(ArtifactError, match="unreadable fidelity"):
        read_fidelity(tmp_path / "fidelity")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"a": 1, "a": 2}', "\0\0"])
def test_a_run_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / RUN_FILE).write_text(text)
    (tmp_path / "round_0" / "sessions").mkdir(parents=True)
    with pytest.raises(ArtifactError, match=r"unreadable run\.json"):
        Run(RecomindConfig(output=str(tmp_path), data=KUAIRAND)).claim()
