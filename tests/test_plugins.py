"""Names become objects only below the operator's prefixes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from recomind.errors import ConfigError
from recomind.plugins import VARIABLE, allow, allowed_prefixes, resolve

SHIPPED = ("recomind.", "simulators.")


@pytest.fixture(autouse=True)
def nothing_allowed(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A package of a user, in which there is more than the user's own."""
    (tmp_path / "shop_of_tests.py").write_text(
        "import os\n"
        "from functools import partial\n"
        "from os import getcwd\n"
        "def inputs(batch):\n    return batch\n"
        "class Model:\n    pass\n"
        "bound = partial(inputs, 1)\n"
        "number = 3\n"
    )
    (tmp_path / "broken_of_tests.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("shop_of_tests", None)


def test_what_is_shipped_is_allowed():
    assert resolve("recomind.plugins.resolve", setting="a.b") is resolve


def test_what_the_operator_names_is_allowed(shop, monkeypatch):
    monkeypatch.setenv(VARIABLE, " elsewhere , shop_of_tests.")
    assert resolve("shop_of_tests.inputs", setting="a.b")(7) == 7
    assert resolve("shop_of_tests.Model", setting="a.b").__name__ == "Model"


def test_a_prefix_for_one_name_is_not_kept(shop):
    assert resolve("shop_of_tests.inputs", setting="a.b", also=["shop_of_tests"])(7) == 7
    with pytest.raises(ConfigError, match="outside the allowed prefixes"):
        resolve("shop_of_tests.inputs", setting="a.b")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"x\.inputs is outside the allowed prefixes; got: no inputs"),
        ("os.system", r"got: os\.system; expected: \['recomind\.', 'simulators\.', 'shop_of_tests"),
        ("recomindful.inputs", "outside the allowed prefixes"),
        ("shop_of_tests_and_more.inputs", "outside the allowed prefixes"),
        ("shop_of_tests.os", "got: shop_of_tests.os, defined in os"),
        ("shop_of_tests.getcwd", "got: shop_of_tests.getcwd, defined in (posix|nt)"),
        ("shop_of_tests.bound", "got: shop_of_tests.bound, defined in functools"),
        ("shop_of_tests.number", "got: shop_of_tests.number, defined in builtins"),
        ("shop_of_tests.os.system", r"x\.inputs cannot be imported; got: shop_of_tests\.os\.sys"),
        ("shop_of_tests.absent", "cannot be imported.*installed or on PYTHONPATH"),
        ("recomind.", "cannot be imported"),
        ("recomind..types.Ranker", "cannot be imported"),
    ],
)
def test_everything_else_is_refused(shop, monkeypatch, name, message):
    monkeypatch.setenv(VARIABLE, "shop_of_tests")
    with pytest.raises(ConfigError, match=message) as refused:
        resolve(name, setting="x.inputs")
    if "outside" in str(refused.value):
        assert VARIABLE in str(refused.value)


def test_a_module_that_fails_to_import_says_why(shop):
    with pytest.raises(ConfigError, match=r"cannot be imported.*no licence"):
        resolve("broken_of_tests.inputs", setting="a.b", also=["broken_of_tests"])


@pytest.mark.parametrize("value", ["", " ", ",", ".", " . , "])
def test_an_empty_prefix_allows_nothing(monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    assert allowed_prefixes(["", "."]) == SHIPPED


def test_child_processes_inherit_the_list(shop, monkeypatch):
    allow(["shop_of_tests."])
    allow(["other"])
    assert os.environ[VARIABLE] == "shop_of_tests.,other."
    code = (
        "from recomind.plugins import resolve; print(resolve('shop_of_tests.inputs', setting='a'))"
    )
    path = os.pathsep.join([str(shop), os.getcwd()])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "function inputs" in done.stdout, done.stderr


def test_nothing_to_allow_leaves_the_environment_alone(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    allow([])
    assert VARIABLE not in os.environ
