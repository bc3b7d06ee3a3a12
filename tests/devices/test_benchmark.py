"""`benchmarks/gpu` runs where there is no GPU: its arms on the processor, and its nulls."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.gpu import gpu
from benchmarks.gpu.arms import Sizes, flops_of_row
from recomind.devices import CPU
from tests.simulation.tiny import RANKER, tiny_dataset

TINY = Sizes(
    ranker=replace(RANKER, batch_size=16),
    updates=2,
    transitions=8,
    candidates=8,
    calls=2,
    table_rows=100,
    table_width=4,
    lookups=50,
    product=8,
)


@pytest.mark.slow
def test_every_arm_runs_and_gives_a_figure():
    block = tiny_dataset()
    found = gpu.measured(gpu.arms_of(block, TINY, CPU), rounds=1)
    assert {len(values) for values in found.values()} == {1}
    entries = gpu.figures(found, flops_of_row(block, TINY))
    assert entries.keys() == gpu.UNITS.keys()
    assert entries.pop("steps_per_s")["value"] is None
    names = [name for name in entries if name not in ("ranker_rows_per_s.cuda", "train_vs_plain")]
    for name in names:
        assert entries[name]["value"] > 0, name


def test_ratios_are_of_one_round():
    found = {name: [1.0, 4.0] for name in gpu.UNITS} | {
        "ranker_rows_per_s.plain": [2.0, 2.0],
        "lookup": [3.0, 9.0],
        "copy": [6.0, 12.0],
        "flops": [10.0, 10.0],
    }
    entries = gpu.figures(found, flops_of_row=2.0)
    assert entries["train_vs_plain"]["value"] == pytest.approx(1.25)  # of .5 and 2
    assert entries["bandwidth_share"]["value"] == pytest.approx(0.625)  # of .5 and .75
    assert entries["matmul_share"]["high"] == pytest.approx(0.8)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs torch without a GPU")
def test_without_a_gpu_every_figure_is_null_with_the_reason(monkeypatch, capsys):
    written = {}
    monkeypatch.setattr(gpu, "write_result", lambda *given, **_: written.update(given[2]))
    monkeypatch.setattr("sys.argv", ["gpu"])
    gpu.main()
    assert written.keys() == gpu.UNITS.keys()
    for entry in written.values():
        assert entry["value"] is None
        assert entry["reason"].startswith("not measured: device=cuda is not there; cpu alone")
    assert "to mend" in capsys.readouterr().err
