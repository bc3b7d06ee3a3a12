"""The doctor names the package, or the pair, that does not fit."""

from __future__ import annotations

import pytest

from recomind.cli.doctor import check_fbgemm, check_import, check_requirements


@pytest.mark.parametrize(
    ("installed", "fine", "words"),
    [
        ({"torch": "2.13.0+cpu"}, True, "2.13.0+cpu"),
        ({"torch": "2.12.1"}, False, "2.12.1, expected <2.14,>=2.13"),
        ({}, False, "absent, expected"),
    ],
)
def test_a_requirement_that_is_not_met(installed: dict, fine: bool, words: str) -> None:
    wanted = ["torch>=2.13,<2.14", 'pytest>=8; extra == "dev"']
    (finding,) = check_requirements(wanted, installed.get)
    assert (finding.subject, finding.fine) == ("torch", fine)
    assert words in finding.detail


@pytest.mark.parametrize(
    ("installed", "fine", "words"),
    [
        ({"torchrec": "1.8.0", "fbgemm-gpu-cpu": "1.8.0"}, True, "fbgemm-gpu-cpu 1.8.0"),
        ({"torchrec": "1.8.0", "fbgemm-gpu": "1.8.2"}, True, "fbgemm-gpu 1.8.2"),
        ({"torchrec": "1.8.0", "fbgemm-gpu-cpu": "1.7.0"}, False, "does not fit torchrec 1.8.0"),
        ({"torchrec": "1.8.0", "fbgemm-gpu": "1.8.0", "fbgemm-gpu-cpu": "1.8.0"}, False, "one of"),
        ({"torchrec": "1.8.0"}, False, "absent; expected exactly one"),
        ({"fbgemm-gpu-cpu": "1.8.0"}, False, "does not fit torchrec None"),
    ],
)
def test_the_pair_of_torchrec_and_fbgemm(installed: dict, fine: bool, words: str) -> None:
    finding = check_fbgemm(installed.get)
    assert finding.fine is fine
    assert words in finding.detail


def test_a_module_that_does_not_load() -> None:
    assert check_import("json").fine
    finding = check_import("recomind.absent")
    assert not finding.fine
    assert "recomind.absent" in finding.detail
