"""LightGBM text is checked before LightGBM, which believes it, sees it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from recomind.artifacts.boosters import read_booster
from recomind.errors import ArtifactError

_QUIET = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}


def rows(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((400, 3))


def trained(**parameters: object) -> lgb.Booster:
    x = rows()
    x[:, 2] = np.random.default_rng(1).integers(0, 6, len(x))
    label = (x[:, 0] + (x[:, 2] % 2) > 0.5).astype(int)
    data = lgb.Dataset(x, label, categorical_feature=parameters.pop("categorical", []))  # type: ignore
    return lgb.train({"objective": "binary", "num_leaves": 7} | _QUIET | parameters, data, 6)


@pytest.fixture(scope="module")
def text() -> str:
    return trained().model_to_string()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.txt"


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"categorical": [2]},
        {"linear_tree": True},
        {"boosting": "dart"},
        {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
        {"objective": "multiclass", "num_class": 2},
        {"objective": "regression", "num_leaves": 2},
        {"objective": "regression", "min_gain_to_split": 1e9},  # trees of one leaf
    ],
)
def test_what_lightgbm_writes_is_read(path: Path, parameters: dict) -> None:
    booster = trained(**parameters)
    booster.save_model(path)
    assert np.array_equal(read_booster(path).predict(rows()), booster.predict(rows()))  # type: ignore


def test_every_cut_is_refused(path: Path, text: str) -> None:
    end = text.index("end of trees")
    for length in [0, 1, 100, 200, *range(300, end, 97), end + 5]:
        path.write_text(text[:length])
        with pytest.raises(ArtifactError, match="not a LightGBM model"):
            read_booster(path)


def _swap(pattern: str, by: str) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, by, text, count=1, flags=re.MULTILINE)


@pytest.mark.parametrize(
    "change",
    [
        _swap(r"^tree_sizes=\d+", "tree_sizes=7"),
        _swap(r"^tree_sizes=\d+ ", "tree_sizes="),
        _swap(r"^tree_sizes=.*\n", ""),
        _swap(r"^num_leaves=\d+", "num_leaves=9"),
        _swap(r"^num_leaves=\d+", "num_leaves=2000000000"),
        _swap(r"^left_child=-?\d+", "left_child=6"),
        _swap(r"^left_child=-?\d+", "left_child=0"),
        _swap(r"^right_child=-?\d+", "right_child=-99"),
        _swap(r"^split_feature=\d+", "split_feature=3"),
        _swap(r"^split_feature=\d+", "split_feature=-1"),
        _swap(r"^leaf_value=\S+", "leaf_value=nan"),
        _swap(r"^leaf_value=\S+ ", "leaf_value="),
        _swap(r"^threshold=\S+", "threshold=abc"),
        _swap(r"^num_cat=0", "num_cat=5"),
        _swap(r"^num_class=\d+", "num_class=-1"),
        _swap(r"^num_tree_per_iteration=\d+", "num_tree_per_iteration=1000000000"),
        lambda text: text.replace(  # so that each tree is of another class than there are
            "num_tree_per_iteration=1", f"num_tree_per_iteration={text.count('Tree=')}"
        ),
        _swap(r"^max_feature_idx=\d+", "max_feature_idx=1"),
        _swap(r"^max_feature_idx=\d+", "max_feature_idx=2000000000"),
        _swap(r"^feature_names=.*\n", ""),
        _swap(r"^objective=.*", "objective="),
        _swap(r"^objective=.*", "objective= "),
        _swap(r"^Tree=1$", "Tree=7"),
        _swap(r"^tree\n", "bush\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("end of trees", "end of"),
        lambda text: text[: text.index("Tree=0")] + text[text.index("Tree=1") :],
    ],
)
def test_a_structure_that_does_not_hold_is_refused(path: Path, text: str, change: Callable) -> None:
    changed = change(text)
    assert changed != text
    path.write_text(changed, newline="")
    with pytest.raises(ArtifactError, match="not a LightGBM model"):
        read_booster(path)


def _in_tree(pattern: str, by: str) -> Callable[[str], str]:
    """A change in the first tree that `tree_sizes` knows of: it is refused for itself alone."""

    def change(text: str) -> str:
        changed = _swap(pattern, by)(text)
        longer = len(changed) - len(text)
        size = re.search(r"^tree_sizes=(\d+)", text, re.MULTILINE)
        assert size
        return _swap(r"^tree_sizes=\d+", f"tree_sizes={int(size[1]) + longer}")(changed)

    return change


@pytest.mark.parametrize(
    "change",
    [
        _in_tree(r"^split_gain=", "split_gain-"),  # takes the next line for its value
        _in_tree(r"^shrinkage=", "shrinkage "),
        _in_tree(r"^shrinkage=\S+", "shrinkage=much"),
        _in_tree(r"^split_gain=.*", "split_gain="),
        _in_tree(r"^leaf_weight=.*", "leaf_weight="),
        _in_tree(r"^threshold=", "\nthreshold="),  # LightGBM ends a tree at an empty line
        _in_tree(
            r"^shrinkage=", "".join(f"{c}=1\n" for c in "abcdefghi") + "shrinkage="
        ),  # it reads 22 lines
        _in_tree(r"^split_feature=(\d+) ", "split_feature=\\1\t"),
        _in_tree(r"^left_child=(-?\d+) ", "left_child=\\1.0 "),
        _in_tree(r"^right_child=(-?\d+) ", "right_child=\\1e0 "),
        _in_tree(r"^split_feature=(\d+) ", "split_feature=0_\\1 "),
        _in_tree(r"^num_leaves=(\d+)", "num_leaves=0_\\1"),
        _in_tree(r"^num_leaves=(\d+)", "num_leaves= \\1"),
        _in_tree(r"^leaf_value=(\S+)", "leaf_value=0_1"),
    ],
)
def test_a_tree_that_lightgbm_would_read_otherwise_is_refused(
    path: Path, text: str, change: Callable[[str], str]
) -> None:
    """LightGBM meets it in a thread of its own, where an error ends the process."""
    path.write_text(change(text))
    with pytest.raises(ArtifactError, match="not a LightGBM model"):
        read_booster(path)


def test_parameters_that_are_none_are_not_looked_at(path: Path, text: str) -> None:
    changed = text.replace("[gpu_device_id: -1]", "[gpu_device_id -1]")
    assert changed != text
    path.write_text(changed)
    assert np.array_equal(read_booster(path).predict(rows()), trained().predict(rows()))  # type: ignore


def test_bytes_that_are_no_text_and_huge_files_are_refused(path: Path) -> None:
    path.write_bytes(b"tree\n\xff\xfe\0")
    with pytest.raises(ArtifactError, match="not a LightGBM model"):
        read_booster(path)
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ArtifactError, match="not a LightGBM model"):
        read_booster(path)
