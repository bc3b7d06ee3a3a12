"""KuaiRand's layout and a world's logs as settings of `data=table`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recomind.data.sources.kuairand.columns import CODES

COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")


def kuairand_settings(
    *, log: str, users: str, videos: str, history: str, n: Callable[[str], str] = str
) -> dict[str, Any]:
    """What `data=kuairand` does, said by columns; `n` gives the name of a column in the files."""
    played, length = n("play_time_ms"), n("video_duration")
    counts = {f"log_{c}": f"log1p({n(c)})" for c in COUNTS}
    return {
        "source": "table",
        "log": {
            "path": log,
            "user": n("user_id"),
            "item": n("video_id"),
            "time": n("time_ms"),
            "time_zone": "Asia/Shanghai",
            "dwell_s": f"{played} / 1000",
            "propensity": f"CASE WHEN {n('is_rand')} = 1 THEN 1 / num_items END",
        },
        "tasks": {
            "watch_10s": f"{played} > 10000",
            "long_view": n("long_view"),
            "like": n("is_like"),
            "hide": n("is_hate"),
        },
        "unwanted": ["hide"],
        "context": {"tab": n("tab")},
        "items": {
            "path": videos,
            "id": n("video_id"),
            "published": n("upload_dt"),
            "max_unknown": 0,
            "numbers": {
                "log_aspect": f"ln({n('server_height')} / {n('server_width')})",
                "log_duration_s": f"log1p(coalesce({length}, median({length})) / 1000)",
                "duration_missing": f"{length} IS NULL",
            },
            "categories": {
                "author": {"value": n("author_id"), "buckets": 4096},
                "tag": f"split_part({n('tag')}, ',', 1)",
                "video_type": {"value": n("video_type"), "words": ["NORMAL", "AD"]},
                "music_type": n("music_type"),
            },
        },
        "users": {
            "path": users,
            "id": n("user_id"),
            "max_unknown": 0,
            "numbers": counts | {c: f"coalesce({n(c)}, 0)" for c in CODES},
            "categories": {"degree": n("user_active_degree")},
        },
        "sessions": {"gap": "24h"},
        "rates": {
            "of": ["watch_10s", "long_view"],
            "of_items": {"played_3s": f"{played} > 3000", "played_30s": f"{played} > 30000"},
            "by": ["user", "item", "author", "tag", "tab", ["user", "tab"]],
            "prior": 0.35,
        },
        "history": {
            "path": history,
            "user": n("user_id"),
            "item": n("video_id"),
            "order": n("pos"),
            "label": n("long_view"),
        },
    }


def world_settings(
    *,
    log: str,
    items: str,
    tasks: list[str],
    features: list[str],
    dense: list[str],
    sizes: dict[str, int],
) -> dict[str, Any]:
    """A world's logs as its own artifact has them, under the names that `as_shop` gives."""
    return {
        "source": "table",
        "log": {
            "path": log,
            "user": "customer",
            "item": "article",
            "time": "clock",
            "time_unit": "relative",
            "propensity": "p_shown",
            "dwell_s": "seconds",
            "duplicates": "keep",
        },
        "tasks": {task: f"did_{task}" for task in tasks},
        "context": {name: f"f_{name}" for name in features},
        "items": {
            "path": items,
            "id": "sku",
            "numbers": {name: f"x_{name}" for name in dense},
            "categories": {
                name: {"value": f"c_{name}", "size": size} for name, size in sizes.items()
            },
            "standardise": False,
        },
        "sessions": {
            "column": "visit",
            "timeline": "visit",
            "position": "place",
            "left": "went",
            "left_known": "went_known",
        },
        "splits": {"column": "part", "holdout": "kept"},
        "standardise": False,
    }
