"""The format `onnx`: a folder that ranks raw requests with numpy and ONNX Runtime alone.

model.onnx            states and candidates in, the final order out (see `graph`)
model.json            ids of items, scaling of user features, tasks; where it came from
request.schema.json   what a raw request holds (JSON Schema), and the graph's tensors
requests.json         golden requests in raw ids and units
golden.npz            the same as inputs of the graph, and the trained network's answers
example.py            from raw requests to ranked ids
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recomind.artifacts import write_json
from recomind.export.comparing import Answers, compare_answers
from recomind.export.formats import ExportJob
from recomind.export.golden import Golden
from recomind.export.onnx import describe
from recomind.export.onnx.graph import (
    DENSITY,
    ask,
    check_possible,
    feeds,
    open_session,
    save,
    trace,
)
from recomind.export.scorer import PolicyScorer

MODEL, EXAMPLE = "model.onnx", "example.py"
_PROGRAM = "onnx.program"  # in the job's cache


@dataclass(frozen=True, slots=True)
class OnnxFormat:
    """See the module."""

    name: str = "onnx"

    def check_possible(self, scorer: PolicyScorer) -> None:
        """Raise ConfigError unless `scorer` can become an ONNX graph here."""
        check_possible(scorer)

    def write(self, job: ExportJob, folder: Path) -> dict[str, Any]:
        """Write the folder; returns how far ONNX Runtime is from the trained network."""
        write_model(job, folder / MODEL)
        report = parity_of(folder / MODEL, job.golden)
        write_json(folder / "model.json", describe.model(job, report))
        write_json(folder / "request.schema.json", describe.schema(job, folder / MODEL))
        requests = json.dumps(describe.raw_requests(job), separators=(",", ":"))  # long enough
        (folder / "requests.json").write_text(requests)
        arrays: dict[str, Any] = golden_arrays(job.golden)
        np.savez_compressed(folder / "golden.npz", **arrays)
        shutil.copyfile(Path(__file__).with_name(EXAMPLE), folder / EXAMPLE)
        return report


def write_model(job: ExportJob, path: Path) -> None:
    """Write the graph, which is traced once for all formats of one export."""
    if _PROGRAM not in job.cache:
        job.cache[_PROGRAM] = trace(job.scorer)
    save(job.cache[_PROGRAM], job.scorer, path)


def parity_of(path: Path, golden: Golden) -> dict[str, Any]:
    """How far the graph at `path` is from the golden answers, on ONNX Runtime."""
    found = {name: torch.from_numpy(array) for name, array in run(path, golden).items()}
    return compare_answers(Answers(**found), golden)


def run(path: Path, golden: Golden) -> dict[str, np.ndarray]:
    """The graph's outputs for the golden requests, by name."""
    return ask(open_session(path), feeds(golden))


def golden_arrays(golden: Golden) -> dict[str, np.ndarray]:
    """Golden requests and answers, `input.<name>` and `output.<name>`."""
    answers = {name: getattr(golden, name) for name in ("order", "q", "utility", "supported")}
    answers["q"] = golden.q.masked_fill(~golden.mask, -torch.inf)
    if golden.log_density is not None:
        answers[DENSITY] = golden.log_density
    inputs = {f"input.{name}": array for name, array in feeds(golden).items()}
    return inputs | {f"output.{name}": tensor.numpy() for name, tensor in answers.items()}


FORMAT = OnnxFormat()
