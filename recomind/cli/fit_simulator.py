"""`recomind fit-simulator`: the training simulator, and one of another kind to be judged in."""

from __future__ import annotations

from recomind.cli.context import Run, is_current
from recomind.cli.fidelity import run_fidelity
from recomind.data import SessionDataset
from recomind.ranker import load_rankers
from recomind.simulation import fit_holdout, fit_simulator


def run(run: Run, round_index: int) -> None:
    """Fit both simulators on all sessions so far, and report how close they are to them."""
    _fit(run, round_index)
    run_fidelity(run, round_index)


def _fit(run: Run, round_index: int) -> None:
    """Fit both simulators on disjoint users and days."""
    ranker, sessions = run.path("ranker", round_index), run.session_folders(round_index)
    line = run.line("fit-simulator", round_index)
    groups = ["simulation", "ranker"]
    training = run.manifest("simulator", "fit-simulator", round_index, groups, [ranker, *sessions])
    holdout = run.manifest("holdout_simulator", "fit-holdout", round_index, groups, sessions)
    folders = [run.path(name, round_index) for name in ("simulator", "holdout_simulator")]
    if is_current(folders[0], training) and is_current(folders[1], holdout):
        return line.skipped()
    dataset = run.dataset(round_index)
    config = run.config.simulation
    metrics = fit_simulator(
        folders[0], load_rankers(ranker), dataset, config, training, seed=training.seed
    )
    line(1, 2)
    fit_holdout(folders[1], dataset, config, holdout, seed=holdout.seed)
    auc = metrics.get("auc.leave")
    notes = [f"AUC {auc:.3f} for leaving on later days"] if auc else []
    notes += _cut_short(dataset, config.horizon)
    line.done(f"({'; '.join(notes)})" if notes else "")


def _cut_short(dataset: SessionDataset, horizon: int) -> list[str]:
    """A warning where logged sessions are longer than simulated ones can be."""
    position = dataset.position(dataset.rows())
    longest = int(position.max()) + 1 if len(position) else 0
    if longest <= horizon:
        return []
    share = int((position == horizon).sum()) / max(1, int((position == 0).sum()))
    return [
        f"warning: {share:.1%} of the logged sessions are longer than simulation.horizon={horizon},"
        f" the longest has {longest} events"
    ]
