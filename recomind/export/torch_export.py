"""The format `torch_export`: the whole decision as one program of torch, without our code.

    policy.pt2    `torch.export.load(path).module()`, or what AOTInductor compiles
    model.json    ids of items, scaling of user features, tasks; where it came from

Inputs and outputs are those of the ONNX graph, by position (`recomind.export.onnx.graph`). Torch
reads the file by its own archive reader: load one only from where you would run code from.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recomind.adapters import ExternalKind
from recomind.artifacts import write_json
from recomind.errors import ConfigError
from recomind.export.comparing import Answers, compare_answers
from recomind.export.formats import ExportJob
from recomind.export.golden import Golden
from recomind.export.onnx import describe
from recomind.export.onnx.graph import (
    DENSITY,
    OUTPUTS,
    DecisionGraph,
    check_possible,
    feeds,
    input_names,
    sample_arguments,
)
from recomind.export.onnx.theirs import external_part, standing_in
from recomind.export.scorer import PolicyScorer

PROGRAM = "policy.pt2"
_CHUNK = 64  # states asked at once


@dataclass(frozen=True, slots=True)
class TorchExportFormat:
    """See the module."""

    name: str = "torch_export"

    def check_possible(self, scorer: PolicyScorer) -> None:
        """Raise ConfigError unless torch can trace all of `scorer`."""
        check_possible(scorer, packages=())
        external = external_part(scorer.network.frozen)
        if external is not None and external.config.kind is not ExternalKind.torch:
            raise ConfigError(
                "a program of torch holds what torch can trace",
                got=f"a policy on a ranker of kind {external.config.kind.value}",
                expected="a policy on a ranker of ours, or on a torch module",
                mend="export.formats=[onnx] holds a ranker of any kind",
            )

    def write(self, job: ExportJob, folder: Path) -> dict[str, Any]:
        """Write the folder; returns how far the program, read back, is from the network."""
        with _traceable(job.scorer):
            torch.export.save(traced(job.scorer), folder / PROGRAM)
        program = torch.export.load(folder / PROGRAM).module()
        report = compare_answers(asked(program, job.scorer, job.golden), job.golden)
        beside = {"boosters": [], "boosters_raw": False}
        write_json(folder / "model.json", describe.model(job, report) | beside)
        return report


@contextmanager
def _traceable(scorer: PolicyScorer) -> Iterator[None]:
    """A torch module of the user's is asked without checks for a while."""
    external = external_part(scorer.network.frozen)
    if external is None:
        yield
        return
    with standing_in(external):
        yield


def traced(scorer: PolicyScorer) -> torch.export.ExportedProgram:
    """The decision as a program of torch; states and candidates are free in number.

    Raises:
        ConfigError: torch cannot trace it.
    """
    arguments, shapes = sample_arguments(scorer)
    module = DecisionGraph(scorer).eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            return torch.export.export(module, tuple(arguments), dynamic_shapes=(tuple(shapes),))
    except Exception as error:  # whatever a tracer meets in a module of the user's
        raise ConfigError(
            "torch cannot trace the policy",
            got=str(error).strip()[:600],
            mend="a ranker of yours must be free of branches on values; "
            "without this format the scorer's folder holds it and serves it",
        ) from error


def asked(program: Callable[..., Any], scorer: PolicyScorer, golden: Golden) -> Answers:
    """The program's answers to the golden requests."""
    taken, names = feeds(golden), input_names(scorer)
    inputs = [torch.from_numpy(taken[name]) for name in names]
    with torch.no_grad():
        parts = [program(*rows) for rows in zip(*(i.split(_CHUNK) for i in inputs), strict=True)]
    outputs = OUTPUTS if golden.log_density is None else (*OUTPUTS, DENSITY)
    joined: list[Tensor] = [torch.cat(part) for part in zip(*parts, strict=True)]
    return Answers(**dict(zip(outputs, joined, strict=True)))


FORMAT = TorchExportFormat()
