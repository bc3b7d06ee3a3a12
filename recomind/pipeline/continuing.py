"""A run that goes on where a finished one ended, with what was served since."""

from __future__ import annotations

from pathlib import Path

from recomind.artifacts import read_manifest
from recomind.data import LogSource, WindowedLogs, make_source, reads_logs
from recomind.data.sources.served.decisions import catalogue_identity
from recomind.errors import ConfigError
from recomind.pipeline.run import Round, Run


def check_continued(run: Run) -> None:
    """Refuse to go on from a run that this one cannot go on from; no check where there is none.

    Raises:
        ArtifactError: `continue_from` is no run, or one whose export is absent.
        ConfigError: it is this very run, its rankers see histories of another length, or its items
            are other ones than the served scorer's.
    """
    if run.continued is None:
        return
    if any(_same(each.run.folder, run.folder) for each in run.before):
        raise ConfigError(
            "a run cannot continue itself",
            got=f"continue_from={run.config.continue_from}, output={run.folder}",
            mend="give the new run a folder of its own with output=...",
        )
    ours, before = (each.config.ranker.history_length for each in (run, run.continued))
    if ours != before:
        raise ConfigError(
            "rankers of one run and of the one that it continues see histories of other lengths",
            got=f"ranker.history_length={ours}",
            expected=before,
            mend=f"set ranker.history_length={before}, or begin without continue_from",
        )
    theirs = catalogue_identity(read_manifest(run.continued.folder / "export", "scorer").files)
    served = Path(str(run.config.data["scorer"]))
    if catalogue_identity(read_manifest(served, "scorer", verify=False).files) != theirs:
        raise ConfigError(
            "the run that is continued has other items than the served scorer",
            got=f"continue_from={run.config.continue_from}, data.scorer={served}",
            mend="leave data.scorer out, or continue the run that the scorer was exported from",
        )


def is_windowed(round: Round) -> bool:
    """Whether the round's logs are a window of what goes on being served."""
    config = round.config
    return reads_logs(config.data) and isinstance(
        make_source(config.data, config.allowed_targets), WindowedLogs
    )


def source_of(round: Round) -> LogSource:
    """The logs of a round: the window after those that were taken before.

    Rounds of the runs that are continued count where they took theirs from the same log.
    """
    settings = dict(round.config.data)
    if settings.get("spill") == "":  # what memory cannot hold lies in the run's folder
        settings["spill"] = str(round.run.spill)
    source = make_source(settings, round.config.allowed_targets)
    if not isinstance(source, WindowedLogs):
        return source
    taken = sum(_log(each) == _log(round) for each in round.run.before)
    return source.at_window(taken + round.index)


def _log(round: Round) -> Path | None:
    decisions = round.config.data.get("decisions")
    return Path(str(decisions)).resolve() if decisions else None


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
