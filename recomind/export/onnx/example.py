"""Rank requests in your own ids and units; needs numpy and onnxruntime, nothing of recomind.

python example.py requests.json > answers.json

A policy on a LightGBM ranker needs lightgbm too: its trees are in boosters/.
"""

import hashlib
import json
import math
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
MODEL = json.loads((HERE / "model.json").read_text())
ROW = {str(item): row for row, item in enumerate(MODEL["items"])}


def opened(name: str) -> onnxruntime.InferenceSession:
    """A graph of this folder."""
    return onnxruntime.InferenceSession(HERE / name, providers=["CPUExecutionProvider"])


SESSION = opened("model.onnx")


def user_number(id_: str | int) -> int:
    """An integer stands for itself, text for 63 bits of its BLAKE2 hash."""
    digest = hashlib.blake2b(str(id_).encode(), digest_size=8).digest()
    return id_ if isinstance(id_, int) else int.from_bytes(digest, "big") >> 1


def features_of(request: dict) -> dict:
    """Columns as the log has them become features, which a request may name as well."""
    given, encoding = dict(request["user_features"]), MODEL["encoding"]
    for column, features in encoding["categories"].items():
        if column in given:  # a value that was rare in training has no feature
            value = given.pop(column)
            whole = isinstance(value, float) and value.is_integer()
            word = value if isinstance(value, str) else json.dumps(int(value) if whole else value)
            known = {} if value is None else features
            given |= {name: float(known.get(word) == name) for name in features.values()}
    for name, gap in encoding["gaps"].items():
        if name in given:
            given.setdefault(gap["missing"], float(given[name] is None))
            given[name] = gap["fill"] if given[name] is None else given[name]
    if encoding["clock"] and "time" in request:
        angle = 2 * math.pi * hours(request["time"], ZoneInfo(encoding["clock"])) / 24
        given |= {"hour_sin": math.sin(angle), "hour_cos": math.cos(angle)}
    return given


def hours(time: str | int, zone: ZoneInfo) -> float:
    """The time of day of ISO text or of milliseconds since 1970; text without a zone is local."""
    text = isinstance(time, str)
    moment = datetime.fromisoformat(time) if text else datetime.fromtimestamp(time / 1000, zone)
    moment = moment.astimezone(zone) if moment.tzinfo else moment
    return moment.hour + moment.minute / 60 + (moment.second + moment.microsecond / 1e6) / 3600


def of_boosters(inputs: dict) -> np.ndarray:
    """What the ranker that was there before says, [1, K, tasks]."""
    import lightgbm

    graph = opened("rows.onnx")  # a service opens it and the boosters once
    wanted = {each.name for each in graph.get_inputs()}
    made = graph.run(None, {name: array for name, array in inputs.items() if name in wanted})
    rows = np.asarray(made[0])
    boosters = [lightgbm.Booster(model_file=HERE / name) for name in MODEL["boosters"]]
    scores = [np.asarray(b.predict(rows, raw_score=MODEL["boosters_raw"])) for b in boosters]
    return np.stack(scores, axis=-1)[None].astype(np.float32)


def rank(request: dict) -> dict:
    """The request's items, best first; items that the model does not know are left out."""
    length, limit = MODEL["history_length"], MODEL["limit"] or np.inf
    events = request["history"][-length:]  # oldest first
    padding = [0] * (length - len(events))  # on the left
    row = [ROW.get(str(event["item_id"]), -1) for event in events]
    done = [[event["feedback"].get(task, False) for task in MODEL["tasks"]] for event in events]
    none = [[False] * len(MODEL["tasks"])] * len(padding)
    features = features_of(request)
    user = [(features[f["name"]] - f["mean"]) / f["std"] for f in MODEL["features"]]
    pool = np.array([[ROW.get(str(item), -1) for item in request["item_ids"]]])
    inputs = {
        "user_features": np.clip(np.array([user]), -limit, limit).astype(np.float32),
        "history_item_id": np.maximum([padding + row], 0).astype(np.int64),
        "history_feedback": np.array([none + done], bool),
        "history_dwell_s": np.array([padding + [e["dwell_s"] for e in events]], np.float32),
        "history_gap_s": np.array([padding + [e["gap_s"] for e in events]], np.float32),
        "history_mask": np.array([[False] * len(padding) + [r >= 0 for r in row]], bool),
        "gap_s": np.array([request["gap_s"]], np.float32),  # 0 where there is no history
        "step": np.array([request["step"]], np.int64),
        "item_id": np.maximum(pool, 0).astype(np.int64),
        "mask": pool >= 0,
    }
    if MODEL["takes_user_id"]:
        inputs["user_id"] = np.array([user_number(request["user_id"])], np.int64)
    if MODEL["boosters"]:
        inputs["theirs"] = of_boosters(inputs)
    order, q = (np.asarray(output)[0] for output in SESSION.run(["order", "q"], inputs))
    slots = [slot for slot in order.tolist() if pool[0, slot] >= 0]
    return {"item_ids": [request["item_ids"][s] for s in slots], "scores": q[slots].tolist()}


if __name__ == "__main__":
    json.dump([rank(request) for request in json.loads(Path(sys.argv[1]).read_text())], sys.stdout)
