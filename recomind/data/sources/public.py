"""Public data sets by their own file names: MovieLens and MIND."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recomind.data.sources.preset import Preset


@dataclass(kw_only=True, slots=True)
class MovieLens(Preset):
    """`ratings.csv` and `movies.csv` of MovieLens (latest, 20M, 25M, 32M).

    What was rated is not what was shown: a policy is trained here to see that it runs.
    """

    liked_from: float = 4.0  # a rating that counts as liked

    def settings(self, folder: Path) -> dict[str, Any]:
        """Ratings as events, genres as tags and the first of them as a category."""
        return {
            "log": {
                "path": str(folder / "ratings.csv"),
                "user": "userId",
                "item": "movieId",
                "time": "timestamp",
                "time_unit": "s",
                "max_days": 20_000,
            },
            "tasks": {"liked": f"rating >= {self.liked_from}"},
            "items": {
                "path": str(folder / "movies.csv"),
                "id": "movieId",
                "categories": {"genre": "split_part(genres, '|', 1)"},
                "tags": {"genres": "string_to_array(genres, '|')"},
            },
            "sessions": {"gap": "1h"},
            "rates": {"by": ["user", "item", "genre", ["user", "genre"]]},
        }


@dataclass(kw_only=True, slots=True)
class Mind(Preset):
    """`behaviors.tsv` and `news.tsv` of MIND: an event for each article of an impression."""

    def settings(self, folder: Path) -> dict[str, Any]:
        """Impressions such as "N12-1 N7-0", split into articles and their clicks."""
        behaviors = ["impression", "user_id", "time", "history", "shown"]
        news = ["news_id", "category", "subcategory", "title", "abstract", "url", "in_title"]
        dialect = {"separator": "\t", "has_header": False, "quote_char": None}
        return {
            "log": {
                "path": str(folder / "behaviors.tsv"),
                "csv": dialect | {"new_columns": behaviors},
                "explode": "shown",
                "item": "split_part(shown, '-', 1)",
            },
            "tasks": {"clicked": "split_part(shown, '-', 2)"},
            "items": {
                "path": str(folder / "news.tsv"),
                "csv": dialect | {"new_columns": [*news, "in_abstract"]},
                "id": "news_id",
                "categories": ["category", "subcategory"],
            },
            "sessions": {"gap": "30m"},
            "rates": {"by": ["user", "item", "subcategory", "category"]},
        }
