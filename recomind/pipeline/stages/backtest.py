"""`recomind backtest`: rankers on rolling windows of the logs, judged on later days."""

from __future__ import annotations

from pathlib import Path

from recomind.artifacts import Manifest, write_artifact, write_json
from recomind.evaluation.backtest.days import days_of
from recomind.evaluation.backtest.measure import run_backtest
from recomind.evaluation.backtest.page import render_page
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage


class Backtest(Stage):
    """`backtest.json` and `backtest.html`, of all sessions so far."""

    name, kind, artifact, groups = "backtest", "backtest", "backtest", ("ranker", "backtest")

    def inputs(self, round: Round) -> list[Path]:
        """The sessions."""
        return round.session_folders

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Fit, judge, write; the note says how the first task's AUC ages."""
        settings = round.config.backtest
        found = run_backtest(
            round.dataset(),
            days_of(round.session_folders, settings.parts),
            round.config.ranker,
            settings,
            seed=manifest.seed,
            progress=line,
        )
        with write_artifact(self.path(round), manifest) as staging:
            write_json(staging / "backtest.json", found)
            (staging / "backtest.html").write_text(render_page(found, list(round.run.weights)))
        ages = found["decay"].get(f"auc.{next(iter(round.run.weights))}", [])
        page = self.path(round) / "backtest.html"
        if len(ages) < 2:
            return str(page)
        first, last = ages[0], ages[-1]
        return (
            f"AUC {first['value']:.4f} the day after, {last['value']:.4f} after "
            f"{last['age_days']} days: {page}"
        )
