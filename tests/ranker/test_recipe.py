"""A ranker is described in JSON and built again from it, or the description is refused."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest

from recomind.errors import ArtifactError, ConfigError
from recomind.ranker import RankerConfig, SessionRanker
from recomind.ranker.config import ExternalConfig, ExternalKind, OutputKind
from recomind.ranker.recipe import build_ranker, config_from_json, config_to_json, ranker_recipe
from tests.simulation.tiny import RANKER, tiny_catalogue, tiny_ranker

CONFIG = RankerConfig(
    utility_weights={"like": 2.0, "hide": -1.0},
    num_members=3,
    dropout=0.25,
    external=ExternalConfig(
        kind=ExternalKind.onnx,
        path="a.onnx",
        inputs="shop.inputs",
        tasks=["like", "hide"],
        output=OutputKind.logits,
    ),
)


def test_a_config_survives_json():
    text = json.dumps(config_to_json(CONFIG))
    assert '"kind": "onnx"' in text
    assert config_from_json(RankerConfig, json.loads(text)) == CONFIG


def test_json_holds_a_copy():
    plain = config_to_json(CONFIG)
    plain["utility_weights"]["like"] = 9.0
    plain["external"]["tasks"].append("more")
    assert CONFIG.utility_weights["like"] == 2.0
    assert CONFIG.external.tasks == ["like", "hide"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 3}, r"unreadable RankerConfig.*depth.*with this version"),
        ({"external": {"kind": "forest"}}, r"unreadable ExternalConfig.*forest"),
        ({"external": {"speed": 1}}, r"unreadable ExternalConfig.*speed"),
        ({"external": 3}, r"unreadable ExternalConfig"),
    ],
)
def test_what_is_no_config_is_refused(changes, message):
    with pytest.raises(ArtifactError, match=message):
        config_from_json(RankerConfig, config_to_json(CONFIG) | changes)


def test_a_value_out_of_range_is_refused_as_it_is_in_a_config():
    with pytest.raises(ConfigError, match=r"ranker\.num_members; got: 0"):
        config_from_json(RankerConfig, config_to_json(CONFIG) | {"num_members": 0})


def test_a_recipe_builds_the_same_shape(tmp_path):
    ranker = tiny_ranker(0)
    recipe = json.loads(json.dumps(ranker_recipe(ranker, tmp_path)))
    again = build_ranker(recipe, tiny_catalogue(), tmp_path)
    assert isinstance(again, SessionRanker)
    assert (again.tasks, again.config) == (ranker.tasks, RANKER)
    shapes = [{n: t.shape for n, t in r.state_dict().items()} for r in (ranker, again)]
    assert shapes[0] == shapes[1]
    assert list(tmp_path.iterdir()) == []


def test_a_ranker_of_ours_keeps_no_path_of_the_external_one_beside_it(tmp_path):
    ranker = copy.deepcopy(tiny_ranker(0))
    ranker.config = replace(RANKER, external=CONFIG.external)
    assert "a.onnx" not in json.dumps(ranker_recipe(ranker, tmp_path))


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"kind": "forest"},
        {"kind": "session", "tasks": ["like"]},
        {"kind": "completed", "own": {}},
        {"kind": "completed", "own": {}, "external": {}},
        {"kind": ["session"]},
    ],
)
def test_what_is_no_recipe_is_refused(recipe, tmp_path):
    with pytest.raises(ArtifactError, match="unreadable recipe of a ranker"):
        build_ranker(recipe, tiny_catalogue(), tmp_path)


def test_a_recipe_names_no_model_outside_its_folder(tmp_path):
    config = config_to_json(CONFIG.external) | {"path": "../a.onnx"}
    recipe = {"kind": "external", "config": config}
    with pytest.raises(ArtifactError, match="outside its folder"):
        build_ranker(recipe, tiny_catalogue(), tmp_path / "artifact")
