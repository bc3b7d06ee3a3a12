"""Golden requests as a company would write them: its ids, its columns, its units."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import torch

from recomind.data.encoding import CLOCK, TIME
from recomind.data.scaling import Scaling
from recomind.data.times import DAY_MS
from recomind.export.formats import ExportJob
from recomind.export.golden import Golden
from recomind.export.onnx.theirs import external_part
from recomind.export.raw import RawInputs

_HALF = 0.1  # above it a 0/1 feature is 1: clipping may have brought it near 0
_CLOSE = 1e-6  # standard deviations
_DAY = datetime.datetime(2026, 1, 15)  # no clock changes on it


def raw_requests(job: ExportJob) -> list[dict[str, Any]]:
    """The golden requests in raw ids, columns and units; padding is left out."""
    golden, ids = job.golden, job.record.raw.ids(job.scorer.catalogue.num_items)
    return [_raw_request(job, golden, row, ids) for row in range(len(golden.q))]


def _raw_request(job: ExportJob, golden: Golden, row: int, ids: list[Any]) -> dict[str, Any]:
    state = golden.state
    on_theirs = external_part(job.scorer.network.frozen) is not None
    user = {"user_id": int(state.user_id[row])} if on_theirs else {}
    names = job.scorer.user_feature_names
    scaled = dict(zip(names, state.user_features[row].tolist(), strict=True))
    return {
        **user,
        **raw_user(job.record.raw, scaled, in_text=row % 2 == 0),
        "history": [
            {
                "item_id": ids[int(state.history_item_id[row, at])],
                "feedback": _feedback(job, state.history_feedback[row, at]),
                "dwell_s": float(state.history_dwell_s[row, at]),
                "gap_s": float(state.history_gap_s[row, at]),
            }
            for at in state.history_mask[row].nonzero()[:, 0].tolist()
        ],
        "step": int(state.step[row]),
        "gap_s": float(state.gap_s[row]),
        "item_ids": [ids[item] for item in golden.item_id[row][golden.mask[row]].tolist()],
    }


def _feedback(job: ExportJob, answers_H: torch.Tensor) -> dict[str, bool]:
    return dict(zip(job.scorer.feedback_tasks, answers_H.tolist(), strict=True))


def raw_user(raw: RawInputs, scaled: Mapping[str, float], *, in_text: bool) -> dict[str, Any]:
    """`user_features` and `time` of a request that become the features `scaled`.

    Features that no raw column can have given, such as those of made-up users, stay features.

    Args:
        raw: how columns become features.
        scaled: name -> value, as the network takes it.
        in_text: whether the time is text, or milliseconds.
    """
    # In double precision, which brings the scaled values back exactly.
    values = {
        name: value * raw.scaling_of(name)["std"] + raw.scaling_of(name)["mean"]
        for name, value in scaled.items()
    }
    columns, time = _columns(raw, values), None
    told = {n: v for n, v in columns.items() if _gives(raw, raw.encoding.encode({n: v}), scaled)}
    made = raw.encoding.encode(told)
    if raw.encoding.clock:
        moment = _time(raw.encoding.clock, values, in_text)
        if _gives(raw, raw.encoding.encode({}, moment), scaled):
            time, made = moment, made | dict.fromkeys(CLOCK)
    given = told | {name: value for name, value in values.items() if name not in made}
    return {"user_features": given} | ({} if time is None else {TIME: time})


def _columns(raw: RawInputs, values: Mapping[str, float]) -> dict[str, Any]:
    """What each raw column would be, judging by its features."""
    columns: dict[str, Any] = {}
    for column, words in raw.encoding.categories.items():
        likely = max(words, key=lambda word: values[words[word]], default=None)
        known = likely is not None and values[words[likely]] > _HALF
        columns[column] = likely if known else None
    for name, gap in raw.encoding.gaps.items():
        columns[name] = None if values[gap["missing"]] > _HALF else values[name]
    return columns


def _gives(raw: RawInputs, made: Mapping[str, Any], scaled: Mapping[str, float]) -> bool:
    limit = raw.limit or math.inf
    for name, value in made.items():
        scaling = Scaling(**raw.scaling_of(name))
        found = min(max((value - scaling.mean) / scaling.std, -limit), limit)
        if abs(found - scaled[name]) > _CLOSE:
            return False
    return True


def _time(zone: str, values: Mapping[str, float], in_text: bool) -> str | int:
    """A moment of the time of day that the features tell."""
    angle = math.atan2(*(values[name] for name in CLOCK)) % (2 * math.pi)
    ms = round(angle / (2 * math.pi) * DAY_MS) % DAY_MS
    moment = _DAY + datetime.timedelta(milliseconds=ms)
    if in_text:
        return moment.isoformat(timespec="milliseconds")
    return round(moment.replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)
