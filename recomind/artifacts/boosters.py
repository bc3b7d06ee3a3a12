"""LightGBM's text format, checked before LightGBM reads it.

LightGBM believes its files: one that was cut in the header is a model without trees, which answers
.5 for everything, and a child that points nowhere ends the process. So the structure is checked
here: a header with the sizes of all trees, as many trees of those sizes, whose arrays fit their
number of leaves, whose children make a tree, and "end of trees".

    tree                    the header, one `key=value` a line
    tree_sizes=812 790
    (empty)
    Tree=0                  812 bytes
    num_leaves=7
    ...
    end of trees            then importances and parameters, which LightGBM is not given: a line
                            without a colon among the parameters ends the process
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recomind.artifacts.checked_reading import brief
from recomind.errors import ArtifactError

if TYPE_CHECKING:
    import lightgbm as lgb

_MAX_BYTES = 4 * 2**30
_END = "end of trees"
_MOST = 2**24  # classes, features, leaves; far beyond any model that is trained
_HEADER = {"version", "num_class", "num_tree_per_iteration", "max_feature_idx", "feature_names"}
# Arrays of a tree, and how many numbers each has: of the inner nodes or of the leaves.
_OF_NODES = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_MORE_OF_NODES = ("split_gain", "internal_value", "internal_weight", "internal_count")
_OF_LEAVES = ("leaf_value",)
_OF_INTEGERS = {
    *("split_feature", "decision_type", "left_child", "right_child"),
    *("cat_boundaries", "cat_threshold", "num_features", "leaf_features"),
}
_INTEGERS, _NUMBERS = re.compile("[-0-9 ]*"), re.compile("[-+.0-9a-zA-Z ]*")
_TREE_LINES = 22  # that LightGBM reads of a tree
_MORE_OF_LEAVES = ("leaf_weight", "leaf_count", "leaf_const", "num_features")


def read_booster(path: Path) -> lgb.Booster:
    """Read what `Booster.save_model` wrote.

    Raises:
        ArtifactError: absent, no such text, or a structure that does not hold.
    """
    import lightgbm as lgb  # and with it pandas and scikit-learn: a second and a half

    try:
        text = _text(Path(path))
        check_booster(text)
        return lgb.Booster(model_str=text[: text.index(f"\n{_END}\n")] + f"\n{_END}\n")
    except (OSError, ValueError, KeyError, OverflowError, lgb.basic.LightGBMError) as error:
        raise ArtifactError(
            "not a LightGBM model",
            got=f"{path}: {brief(error)}",
            expected="a text file written by Booster.save_model",
        ) from error


def _text(path: Path) -> str:
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise ValueError(f"{size} bytes, more than {_MAX_BYTES}")
    text = path.read_bytes().decode()
    if "\r" in text or "\0" in text:
        raise ValueError("line ends that LightGBM does not write")
    return text


def check_booster(text: str) -> None:
    """Raise ValueError or KeyError unless `text` is a model that LightGBM can be given."""
    if not text.startswith("tree\n"):
        raise ValueError("it does not begin with 'tree'")
    head, _, rest = text.partition("\n\n")
    header = _pairs(head.split("\n")[1:])
    if missing := (_HEADER | {"tree_sizes"}) - set(header):
        raise ValueError(f"a header without {sorted(missing)}; cut short")
    num_features = _number(header, "max_feature_idx", low=0) + 1
    if len(header["feature_names"].split(" ")) != num_features:
        raise ValueError("other than one name a feature")
    if not header.get("objective", "none").strip():
        raise ValueError("an objective without a name")  # LightGBM reads its first word unasked
    sizes = [_whole(size) for size in header["tree_sizes"].split()]
    per_iteration = _number(header, "num_tree_per_iteration", low=1)
    # LightGBM makes room for one answer a class and writes one for each tree of an iteration.
    if (classes := _number(header, "num_class", low=1)) != per_iteration:
        raise ValueError(f"{per_iteration} trees in an iteration for {classes} classes")
    if len(sizes) % per_iteration:
        raise ValueError(f"{len(sizes)} trees, {per_iteration} in an iteration")
    _check_trees(rest.encode(), sizes, num_features)


def _check_trees(content: bytes, sizes: list[int], num_features: int) -> None:
    begin = 0
    for index, size in enumerate(sizes):
        block = content[begin : begin + size]
        first, _, lines = block.decode().partition("\n")
        if size < 1 or first != f"Tree={index}" or not block.endswith(b"\n"):
            raise ValueError(f"tree {index} of {len(sizes)} is not where tree_sizes says")
        _check_tree(_tree_pairs(lines), num_features)
        begin += size
    if content[begin : begin + len(_END) + 1] != f"{_END}\n".encode():
        raise ValueError(f"no {_END!r} after {len(sizes)} trees")


def _check_tree(tree: Mapping[str, str], num_features: int) -> None:
    num_leaves = _number(tree, "num_leaves", low=1)
    num_nodes = num_leaves - 1
    arrays = {name: _floats(tree, name, num_nodes) for name in _OF_NODES if num_nodes}
    arrays |= {name: _floats(tree, name, num_leaves) for name in _OF_LEAVES}
    for names, count in ((_MORE_OF_NODES, num_nodes), (_MORE_OF_LEAVES, num_leaves)):
        for name in names:
            if num_nodes and name in tree:
                _floats(tree, name, count)
    if "shrinkage" in tree:
        _floats(tree, "shrinkage", 1)
    if not np.isfinite(arrays["leaf_value"]).all():
        raise ValueError("a leaf_value that is not finite")
    if num_nodes:
        _check_nodes(arrays, num_features)
    _check_categories(tree, arrays)
    if _number(tree, "is_linear", low=0, absent=0):
        _check_linear(tree, num_leaves, num_features)


def _check_nodes(arrays: Mapping[str, np.ndarray], num_features: int) -> None:
    feature, num = arrays["split_feature"], len(arrays["split_feature"])
    if not ((feature >= 0) & (feature < num_features)).all():
        raise ValueError("a split by a feature that is not there")
    # Nodes are numbered as they were made: a child comes after its parent. Leaf i is -1 - i.
    children = np.concatenate([arrays["left_child"], arrays["right_child"]])
    parents = np.concatenate([np.arange(num)] * 2)
    whole = np.sort(children)
    if not np.array_equal(whole, np.concatenate([np.arange(-num - 1, 0), np.arange(1, num)])):
        raise ValueError("children that make no tree")
    if (children[children > 0] <= parents[children > 0]).any():
        raise ValueError("children that make a circle")


def _check_categories(tree: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> None:
    num = _number(tree, "num_cat", low=0)
    if num:
        bounds = _floats(tree, "cat_boundaries", num + 1)
        if bounds[0] != 0 or (np.diff(bounds) < 0).any() or bounds[-1] > _MOST:
            raise ValueError("boundaries of categories that do not ascend")
        _floats(tree, "cat_threshold", int(bounds[-1]))
    by_category = arrays["decision_type"].astype(np.int64) & 1 if "decision_type" in arrays else 0
    if np.any(by_category):
        which = arrays["threshold"][by_category == 1]
        if not ((which >= 0) & (which < num) & (which == np.floor(which))).all():
            raise ValueError("a split by categories that are not there")


def _check_linear(tree: Mapping[str, str], num_leaves: int, num_features: int) -> None:
    counts = _floats(tree, "num_features", num_leaves)
    if (counts < 0).any() or counts.sum() > _MOST:
        raise ValueError("leaves with a number of features that cannot be")
    features = _floats(tree, "leaf_features", int(counts.sum()))
    if not ((features >= 0) & (features < num_features)).all():
        raise ValueError("a leaf with a feature that is not there")
    _floats(tree, "leaf_const", num_leaves)
    _floats(tree, "leaf_coeff", int(counts.sum()))


def _tree_pairs(lines: str) -> dict[str, str]:
    """What LightGBM takes from a tree: it looks for the next "=", and stops at an empty line."""
    found = lines.rstrip("\n").split("\n")
    if len(found) > _TREE_LINES or not all("=" in line for line in found):
        raise ValueError("lines of a tree that are no key=value, or too many of them")
    return _pairs(found)


def _pairs(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition("=")
        if name in found and name:
            raise ValueError(f"{name} comes twice")
        found[name] = value
    return found


def _number(values: Mapping[str, str], name: str, *, low: int, absent: int | None = None) -> int:
    text = values.get(name)
    number = absent if text is None else _whole(text)
    if number is None or not low <= number <= _MOST:
        raise ValueError(f"{name} is {text}")
    return number


def _whole(text: str) -> int:
    """An integer, of digits alone: Python would take 1_0 for ten, where LightGBM reads 1."""
    if not _INTEGERS.fullmatch(text) or " " in text:
        raise ValueError(f"{text[:30]!r} is no integer")
    return int(text)


def _floats(values: Mapping[str, str], name: str, count: int) -> np.ndarray:
    """[count] float64: the numbers of an array, none of them NaN, as LightGBM would read them."""
    if not (_INTEGERS if name in _OF_INTEGERS else _NUMBERS).fullmatch(values[name]):
        raise ValueError(f"{name} holds what is no number to LightGBM")
    found = np.array(values[name].split(), dtype=np.float64)
    if len(found) != count or np.isnan(found).any():
        raise ValueError(f"{name} has {len(found)} numbers, not {count}, or one that is none")
    return found
