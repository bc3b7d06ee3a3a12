"""Items known by id alone, some of which drive users away: from logs to a policy that sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recomind.artifacts import load_tensors, read_manifest
from recomind.simulation import load_simulator
from recomind.simulation.effects import EFFECTS, EffectsCatalogue
from tests.flow.commands import MICRO
from tests.flow.in_process import Command

BAIT = (
    "experiment=tiny",
    "world=gym",
    "world.env_id=tests.simulators.bored_env:Bait-v0",
    "allowed_targets=[tests]",
    *(s for s in MICRO[1:] if "num_items" not in s),
    "collect.num_sessions=1500",
    "world.num_items=80",
    "ranker.num_epochs=1",
    "evaluation.fidelity_sessions=20",
)


@pytest.mark.slow
def test_what_drives_users_away_is_learned_from_ids(command: Command) -> None:
    for stage in ("collect-logs", "train-ranker", "build-index", "fit-simulator", "train-policy"):
        outcome = command(stage, *BAIT)
        assert outcome.status == 0, outcome.err
    round_0 = Path("runs/tiny/round_0")
    metrics = read_manifest(round_0 / "simulator", "simulator").metrics
    assert metrics["item_effect_evidence.leave"] > 3
    assert metrics["item_effect.rewarded"] == 0.0
    env = load_simulator(round_0 / "simulator", round_0 / "ranker", {"rewarded": 1.0})
    assert isinstance(env.catalogue, EffectsCatalogue)
    bait = torch.arange(80) % 4 == 0
    leave_N = env.catalogue.table_NE[:, 0]
    assert leave_N[bait].min() > leave_N[~bait].max()
    weights = load_tensors(round_0 / "policy" / "policy.safetensors")
    assert weights["gain.weight"].shape[0] == 1  # the effect that there is
    assert bool(weights["gain.weight"].any())
    assert "kept from before" in command("train-policy", *BAIT).err
    plain = command("fit-simulator", *BAIT, "simulation.item_effects=false")
    assert plain.status == 0, plain.err
    assert not (round_0 / "simulator" / EFFECTS).exists()
