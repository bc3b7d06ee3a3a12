"""A TorchScript file answers as the module it was made of, and warns of nothing."""

from __future__ import annotations

import warnings
import zipfile

import pytest
import torch

from recomind.errors import ArtifactError, SchemaError
from recomind.ranker import load_external
from recomind.ranker.config import ExternalConfig, ExternalKind, OutputKind
from tests.adapters.models import Flat, catalogue, crossed, rows, train


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return train(Flat(), crossed, num_steps=30).eval()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "flat.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.script(model)
        script.train()  # as files often are saved: dropout must be off all the same
        torch.jit.save(script, str(path))
    return path


def make(path, inputs="crossed", **changes):
    home = "tests.adapters.models" if inputs == "crossed" else __name__
    config = ExternalConfig(
        kind=ExternalKind.torchscript,
        path=str(path),
        inputs=f"{home}.{inputs}",
        tasks=["watch_10s", "like"],
        output=OutputKind.logits,
        **changes,
    )
    return load_external(config, catalogue())


def by_position(batch):
    return (crossed(batch),)


def by_name(batch):
    return {"features": crossed(batch)}


def by_wrong_name(batch):
    return {"feature": crossed(batch)}


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_an_entry_that_claims_more_than_its_bytes_can_hold_is_refused(path, tmp_path, method):
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = next(each for each in archive.infolist() if each.compress_type == method)
    header = content.index(b"PK\x01\x02")  # of the first entry in the central directory
    while not content.startswith(entry.filename.encode(), header + 46):
        header = content.index(b"PK\x01\x02", header + 4)
    content[header + 24 : header + 28] = (2**31).to_bytes(4, "little")
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"holds no TorchScript.* claims 2147483648 bytes, in"):
        make(damaged)


@pytest.mark.parametrize("inputs", ["crossed", "by_position", "by_name"])
def test_it_answers_as_the_module(model, path, inputs):
    ranker, batch = make(path, inputs), rows(50)
    logits = ranker.score(ranker.encode_state(batch.state), batch.item_id[:, None])[:, 0]
    torch.testing.assert_close(logits, model(crossed(batch)).detach())


def test_a_wrong_argument(path):
    ranker, batch = make(path, "by_wrong_name"), rows(3)
    encoding = ranker.encode_state(batch.state)
    with pytest.raises(SchemaError, match=r"torchscript ranker flat\.pt failed on .*feature"):
        ranker.score(encoding, batch.item_id[:, None])


def test_a_damaged_file(path, tmp_path):
    damaged = tmp_path / "half.pt"
    damaged.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ArtifactError, match=r"holds no TorchScript.*torch\.jit\.save"):
        make(damaged)
