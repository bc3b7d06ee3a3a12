"""A released scorer with its golden requests, and an engine over it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recomind.artifacts import Manifest, write_artifact
from recomind.candidates import CandidatesConfig
from recomind.export import PolicyScorer, export_policy
from recomind.export.golden import GOLDEN, make_golden
from recomind.serving import ServingConfig, load_engine
from recomind.streams import make_generator
from tests.export.tiny import NAMES, network, settings

torch.set_num_threads(1)


def write_scorer(folder: Path, *, q_offset: float = 0.0, **changes) -> Path:
    """An export without its subprocess; the golden Q may be made wrong."""
    trained = network()
    golden = make_golden(
        PolicyScorer(trained, NAMES), make_generator(0), num_states=30, num_candidates=9
    )
    golden.q = golden.q + q_offset
    given = settings(**{"released": True, "reasons": [], "judged": "abc"} | changes)
    written = export_policy(folder.parent / "plain", trained, given)
    manifest = Manifest(kind="scorer", extra=written.extra, inputs=written.inputs)
    with write_artifact(folder, manifest) as staging:
        for name in written.files:
            (folder.parent / "plain" / name).rename(staging / name)
        golden.save(staging / GOLDEN)
    return folder


@pytest.fixture(scope="session")
def scorer_folder(tmp_path_factory) -> Path:
    return write_scorer(tmp_path_factory.mktemp("serving") / "scorer")


@pytest.fixture(scope="session")
def engine(scorer_folder):
    return load_engine(scorer_folder, ServingConfig(max_candidates=12, max_batch_size=3))


@pytest.fixture(scope="session")
def engine_without_pool(scorer_folder):
    """The catalogue is larger than the pool and there is no index."""
    shape = CandidatesConfig(num_candidates=8, num_nearest=0, num_fresh=0)
    return load_engine(scorer_folder, ServingConfig(), candidates=shape)
