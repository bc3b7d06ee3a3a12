"""What runs of an experiment gave is kept, pooled and in the published figures."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from experiments.records import FILE, Records, mean, pooled
from experiments.result import over_seeds

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
WHAT = ("kind", "seed")


def test_a_run_is_made_once_and_kept_as_it_ends(tmp_path: Path):
    records, made = Records(tmp_path, WHAT), []

    def one(run):
        if run == ("a", 2):
            raise RuntimeError("the third run fails")
        made.append(run)
        return {"lift": run[1] + 0.5}

    runs = [("a", seed) for seed in range(3)]
    with pytest.raises(RuntimeError):
        records.make(records.absent(runs), one, jobs=1)
    assert records.absent(runs) == [("a", 2)]
    records.make(records.absent(runs[:2]), one, jobs=1)
    assert made == runs[:2]
    assert records.of_seeds(range(3), "a") == {0: {"lift": 0.5}, 1: {"lift": 1.5}}
    assert records.of_seeds(range(3), "b") == {}


def test_a_run_that_fails_stops_no_other(tmp_path: Path):
    records = Records(tmp_path, ("seed",))

    def one(run):
        if run == (0,):
            raise RuntimeError("this one fails")
        return {"lift": 1}

    with pytest.raises(RuntimeError, match="this one fails"):
        records.make([(0,), (1,), (2,)], one, jobs=1)
    assert [record["seed"] for record in records.all()] == [1, 2]


def test_of_a_repeated_run_the_later_counts_and_each_has_its_commit(tmp_path: Path):
    records = Records(tmp_path, WHAT)
    records.keep(("a", 0), {"lift": 1.0})
    records.keep(("a", 0), {"lift": 2.0})
    assert records.find("a", 0) == {"lift": 2.0}
    assert all(len(record["commit"]) == 40 for record in records.all())


def test_what_is_no_number_is_not_kept(tmp_path: Path):
    records = Records(tmp_path, WHAT)
    with pytest.raises(ValueError, match="JSON"):
        records.keep(("a", 0), {"lift": float("nan")})
    assert records.absent([("a", 0)]) == [("a", 0)]


def test_half_a_line_is_one_clear_error(tmp_path: Path):
    records = Records(tmp_path, WHAT)
    records.keep(("a", 0), {"lift": 1.0})
    with (tmp_path / FILE).open("a") as file:
        file.write('{"kind": "a", "se')
    with pytest.raises(SystemExit, match=rf"{FILE}:2 is no record of a run.*take the line away"):
        records.find("a", 0)


def test_a_figure_over_seeds_is_null_for_one_and_says_why():
    one, two = {3: {"lift": 0.1}}, {0: {"lift": 0.1}, 1: {"lift": 0.3}, 2: {"depth": 0.0}}
    assert pooled(one, "lift", "plain", range(5)) == {
        "value": None,
        "reason": "1 of 5 seeds of plain have run",
    }
    assert pooled(two, "lift", "plain", range(5)) == over_seeds([0.1, 0.3])
    assert mean(one, "lift", "plain")["per_seed"] == [0.1]
    assert mean({}, "lift", "plain") == {"value": None, "reason": "no seed of plain has run"}


@pytest.mark.parametrize(
    "name", ["sim_to_real", "bootstrap", "exploration", "offline", "suite", "ope", "rounds"]
)
def test_published_figures_are_those_of_the_records(name: str):
    experiment = importlib.import_module(f"experiments.{name}.{name}")
    published = json.loads((EXPERIMENTS / name / "result.json").read_text())["figures"]
    assert experiment.RECORDS.all()
    assert json.loads(json.dumps(experiment.aggregate())) == published


def test_published_figures_of_the_presets_are_those_of_the_records():
    presets = importlib.import_module("experiments.presets.presets")
    published = json.loads((EXPERIMENTS / "presets" / "result.json").read_text())["figures"]
    for preset in presets.PRESETS:
        figures = json.loads(json.dumps(presets.of_preset(preset)))
        assert {name: published[name] for name in figures} == figures
