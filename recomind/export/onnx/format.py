"""The format `onnx`: a folder that ranks raw requests with numpy and ONNX Runtime alone.

model.onnx            states and candidates in, the final order out (see `graph`)
model.json            ids of items, encoding and scaling of user features, tasks; where it came from
request.schema.json   what a raw request holds (JSON Schema), and the graph's tensors
requests.json         golden requests in raw ids, columns and units
golden.npz            the same as inputs of the graph, and the trained network's answers
example.py            from raw requests to ranked ids
example.cjs           the same in JavaScript

A policy on a ranker that existed already holds that ranker: in the graph, or, where it is LightGBM,
as `boosters/<task>.txt` beside `rows.onnx`, which makes the boosters' inputs of a request.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recomind.adapters import ExternalKind, OutputKind
from recomind.adapters.lightgbm_text import booster_files, load_boosters
from recomind.artifacts import write_json
from recomind.export.comparing import Answers, compare_answers
from recomind.export.formats import ExportJob
from recomind.export.golden import Golden
from recomind.export.onnx import describe
from recomind.export.onnx.composed import composed
from recomind.export.onnx.graph import (
    DENSITY,
    THEIRS,
    ask,
    check_possible,
    feeds,
    input_names,
    open_session,
    save,
    save_proto,
    trace,
)
from recomind.export.onnx.raw_requests import raw_requests
from recomind.export.onnx.theirs import external_part
from recomind.export.scorer import PolicyScorer

MODEL, ROWS, BOOSTERS = "model.onnx", "rows.onnx", "boosters"
EXAMPLES = ("example.py", "example.cjs")
Arrays = Mapping[str, np.ndarray]
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
        boosters = write_boosters(job, folder)
        theirs = scores_of_boosters(job, folder, boosters)
        report = parity_of(folder / MODEL, job.golden, theirs)
        write_beside(job, folder, report, boosters)
        return report


def write_beside(
    job: ExportJob, folder: Path, report: Mapping[str, Any], boosters: Sequence[str] = ()
) -> None:
    """What makes a folder that holds the graph whole: descriptions, golden requests, programs."""
    write_json(folder / "model.json", describe.model(job, report) | _told(job, boosters))
    write_json(folder / "request.schema.json", describe.schema(job, folder / MODEL))
    requests = json.dumps(raw_requests(job), separators=(",", ":"))  # long enough
    (folder / "requests.json").write_text(requests)
    arrays: dict[str, Any] = golden_arrays(job.golden, input_names(job.scorer))
    np.savez_compressed(folder / "golden.npz", **arrays)
    for name in EXAMPLES:
        shutil.copyfile(Path(__file__).with_name(name), folder / name)


def _told(job: ExportJob, boosters: Sequence[str]) -> dict[str, Any]:
    """What `model.json` says of boosters: their files, and whether their raw scores are taken."""
    external = external_part(job.scorer.network.frozen)
    raw = external is not None and external.config.output is OutputKind.logits
    return {"boosters": list(boosters), "boosters_raw": bool(boosters) and raw}


def write_model(job: ExportJob, path: Path) -> None:
    """Write the graph, which is traced once for all formats of one export."""
    if external_part(job.scorer.network.frozen) is not None:
        model, _ = _composed(job)
        return save_proto(model, job.scorer, path)
    if _PROGRAM not in job.cache:
        job.cache[_PROGRAM] = trace(job.scorer)
    save(job.cache[_PROGRAM], job.scorer, path)


def _composed(job: ExportJob) -> tuple[Any, Any]:
    if _PROGRAM not in job.cache:
        job.cache[_PROGRAM] = composed(job.scorer)
    return job.cache[_PROGRAM]


def write_boosters(job: ExportJob, folder: Path) -> list[str]:
    """The trees of a LightGBM ranker and the graph of their inputs; their names, or none."""
    external = external_part(job.scorer.network.frozen)
    if external is None or external.config.kind is not ExternalKind.lightgbm:
        return []
    save_proto(_composed(job)[1], job.scorer, folder / ROWS)
    (folder / BOOSTERS).mkdir()
    files = booster_files(external.config, external.model_path)
    for file in files:
        shutil.copyfile(file, folder / BOOSTERS / file.name)
    return [f"{BOOSTERS}/{file.name}" for file in files]


def scores_of_boosters(job: ExportJob, folder: Path, names: Sequence[str]) -> Arrays:
    """What the boosters `names` say of the golden requests, as the graph's input; else nothing."""
    external, golden = external_part(job.scorer.network.frozen), job.golden
    if external is None or not names:
        return {}
    made = ask(open_session(folder / ROWS), feeds(golden))
    rows = next(iter(made.values()))
    path = folder / (BOOSTERS if len(names) > 1 else names[0])
    scores = load_boosters(external.config, path)(rows)
    return {THEIRS: scores.reshape(*golden.item_id.shape, -1).astype(np.float32)}


def parity_of(path: Path, golden: Golden, more: Arrays | None = None) -> dict[str, Any]:
    """How far the graph at `path` is from the golden answers, on ONNX Runtime."""
    found = {name: torch.from_numpy(array) for name, array in run(path, golden, more).items()}
    return compare_answers(Answers(**found), golden)


def run(path: Path, golden: Golden, more: Arrays | None = None) -> dict[str, np.ndarray]:
    """The graph's outputs for the golden requests, by name; `more` are further inputs."""
    return ask(open_session(path), feeds(golden) | dict(more or {}))


def golden_arrays(golden: Golden, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Golden requests and answers, `input.<name>` and `output.<name>`."""
    answers = {name: getattr(golden, name) for name in ("order", "q", "utility", "supported")}
    answers["q"] = golden.q.masked_fill(~golden.mask, -torch.inf)
    if golden.log_density is not None:
        answers[DENSITY] = golden.log_density
    taken = feeds(golden)
    inputs = {f"input.{name}": taken[name] for name in names}
    return inputs | {f"output.{name}": tensor.numpy() for name, tensor in answers.items()}


FORMAT = OnnxFormat()
