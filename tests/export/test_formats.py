"""Formats are found in one place, and what a user can get wrong about them is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recomind.adapters import ExternalConfig, ExternalKind
from recomind.artifacts import read_manifest
from recomind.config import RecomindConfig
from recomind.errors import ConfigError, ParityError
from recomind.export import (
    ExportConfig,
    ExportJob,
    PolicyScorer,
    export_and_verify,
    load_scorer,
    make_formats,
)
from recomind.export.formats import FORMATS
from recomind.ranker import RankerConfig
from tests.export.tiny import network, settings


class ScoresByItem:
    """A toy format: the mean Q of each item of the golden requests, as JSON."""

    name = "by_item"

    def check_possible(self, scorer: PolicyScorer) -> None:
        if scorer.catalogue.num_items > 1000:
            raise ConfigError("too many items for the toy")

    def write(self, job: ExportJob, folder: Path) -> dict[str, Any]:
        golden = job.golden
        seen = golden.item_id[golden.mask].unique().tolist()
        means = {i: float(golden.q[golden.mask & (golden.item_id == i)].mean()) for i in seen}
        (folder / "means.json").write_text(json.dumps(means))
        return {"passed": True, "num_items": len(means)}


class Wrong(ScoresByItem):
    """One that finds its own answers wanting."""

    name = "wrong"

    def write(self, job: ExportJob, folder: Path) -> dict[str, Any]:
        return super().write(job, folder) | {"passed": False}


class BadName(ScoresByItem):
    """One whose folder would lie outside."""

    name = "../elsewhere"


TOY, WRONG, BAD_NAME = ScoresByItem(), Wrong(), BadName()
HERE = "tests.export.test_formats"


def test_every_format_of_the_table_can_be_made():
    made = make_formats(list(FORMATS))
    assert [each.name for each in made] == list(FORMATS)


def test_the_scorer_itself_may_be_named():
    assert make_formats(["safetensors"]) == []


@pytest.mark.slow
def test_a_format_of_a_users_own_is_written_beside_the_scorer(tmp_path):
    formats = make_formats([f"{HERE}.TOY"], ["tests"])
    folder = tmp_path / "scorer"
    report = export_and_verify(
        folder, network(), settings(), num_states=20, num_candidates=5, formats=formats
    )
    means = json.loads((folder / "by_item" / "means.json").read_text())
    assert report["formats"] == {"by_item": {"passed": True, "num_items": len(means)}}
    assert "by_item/means.json" in read_manifest(folder).files
    assert load_scorer(folder).catalogue.num_items == 40


@pytest.mark.slow  # a process of its own verifies the scorer first
def test_a_format_that_answers_otherwise_leaves_nothing(tmp_path):
    formats = make_formats([f"{HERE}.WRONG"], ["tests"])
    trained = network()
    with pytest.raises(ParityError, match=r"export format 'wrong'.*leave 'wrong' out"):
        export_and_verify(tmp_path / "scorer", trained, settings(), num_states=5, formats=formats)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("onyx", r"export.formats; got: onyx; expected: .*did you mean 'onnx'"),
        ("elsewhere.FORMAT", "outside the allowed prefixes"),
        (f"{HERE}.ABSENT", "cannot be imported"),
        (f"{HERE}.HERE", "outside the allowed prefixes"),
        (f"{HERE}.ScoresByItem", "no export format"),
        (f"{HERE}.BAD_NAME", r"that of a folder; got: \.\./elsewhere"),
    ],
)
def test_what_is_no_format_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        make_formats([name], ["tests"])


def test_the_settings_name_each_format_once():
    with pytest.raises(ConfigError, match="names a format twice"):
        ExportConfig(formats=["onnx", "onnx"])
    with pytest.raises(ConfigError, match="did you mean 'triton'"):
        ExportConfig(formats=["tritn"])
    assert ExportConfig().formats == []


def test_two_formats_of_one_folder_are_refused():
    with pytest.raises(ConfigError, match="into one folder"):
        make_formats([f"{HERE}.TOY", f"{HERE}.TOY"], ["tests"])


@pytest.mark.parametrize(
    ("formats", "kind", "refused"),
    [
        (["onnx", "ranker"], "torch", "ranker"),
        (["torch_module"], "none", "torch_module"),
        (["torch_module"], "lightgbm", "torch_module"),
        (["onnx", "triton"], "lightgbm", "triton"),
        (["onnx_int8"], "lightgbm", "onnx_int8"),
        (["torch_export"], "onnx", "torch_export"),
    ],
)
def test_a_format_that_does_not_fit_the_ranker_is_refused_before_training(formats, kind, refused):
    with pytest.raises(ConfigError, match=f"'{refused}' cannot hold .*external.kind={kind}"):
        ExportConfig(formats=formats).check_ranker(kind)
    ExportConfig(formats=["safetensors", "onnx", "my_shop.formats.FORMAT"]).check_ranker(kind)


def test_the_whole_config_is_checked_for_it():
    kind = ExternalKind.lightgbm
    external = ExternalConfig(kind=kind, path="x", inputs="x.y", tasks=["watch_10s"])
    with pytest.raises(ConfigError, match="'ranker' cannot hold a policy on this ranker"):
        RecomindConfig(
            world={"_target_": "x"},
            ranker=RankerConfig(external=external),
            export=ExportConfig(formats=["ranker"]),
        )
