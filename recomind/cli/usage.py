"""What `recomind` says of its commands."""

from __future__ import annotations

FLOW = {
    "collect-logs": "a world, a logging policy -> sessions with propensities",
    "prepare-data": "raw logs -> sessions, catalogue",
    "join-outcomes": "decisions of a service, what came of them -> sessions",
    "train-ranker": "sessions -> ranker ensemble, calibrated",
    "build-index": "sessions, catalogue -> item vectors, nearest-neighbour index",
    "fit-simulator": "rankers, sessions -> training and hold-out simulator",
    "train-policy": "ranker, simulator -> policy, checkpoints",
    "train-seeds": "the same -> policies of further seeds, where gate.seeds asks for them",
    "distil-queries": "policy, index, sessions -> index that fetches what the policy values",
    "evaluate": "policy, ranker, simulators, world -> report.json, report.html",
    "export": "policy -> scorer folder, parity report",
    "backtest": "sessions -> rankers on rolling windows of days, judged on later days",
    "run": "all of it, in rounds; the same command goes on after a stop",
    "serve": "scorer folder, index -> HTTP service on loopback",
    "check-ranker": "rankers, or one of yours -> what is wrong with them",
    "check-world": "a world, simulators -> what is wrong with them",
    "describe-data": "raw logs -> what is in them, as tables and a page",
}
OTHERS = {
    "init NAME": "raw files -> conf/experiment/NAME.yaml with guesses, a ranker's stub, a test",
    "results [dir]": "one table over the reports below a folder (default: runs)",
    "compare a b ...": "what each run was judged by, side by side",
    "doctor": "look over the installation",
    "completion": "a script that completes commands and settings: bash, zsh or fish",
}


def usage() -> str:
    """The text of `recomind --help`."""
    stages = "\n".join(f"  {name:<15} {what}" for name, what in FLOW.items())
    others = "\n".join(f"  {name:<15} {what}" for name, what in OTHERS.items())
    return f"""usage: recomind <command> [key=value ...] [flags]

stages, in the order of the flow (recomind <stage> --help shows flags and settings)
{stages}

other commands
{others}

examples
  recomind run experiment=demo
  recomind run experiment=kuairand data.root=/path/to/KuaiRand-Pure/data
  recomind run -m hydra/launcher=ray experiment=tiny seed=0,1

exit status: 0 done; 1 internal error; 2 bad input; 3 done, the gate did not release"""
