"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

_NAME = "kuairand-pure"
_BESIDE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def kuairand_root() -> Path:
    """The folder of KuaiRand-Pure, or a skip: the data is not part of this project."""
    given = Path(os.environ.get("RECOMIND_DATA") or _BESIDE_CHECKOUT)
    for folder in (given, given / _NAME):
        if (folder / "user_features_pure.csv").is_file():
            return folder
    pytest.skip(f"no KuaiRand-Pure in {given}; set RECOMIND_DATA to its folder or its parent")
