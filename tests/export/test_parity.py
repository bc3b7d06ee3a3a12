"""Parity in a fresh process; and what differs, whatever it is, is found and leaves nothing."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from recomind.artifacts import read_manifest
from recomind.errors import ArtifactError, ConfigError, ParityError
from recomind.export import Golden, PolicyScorer, compare, export_and_verify, load_scorer
from recomind.export import parity as parity_module
from recomind.export.golden import make_golden, random_states
from recomind.export.parity import forbidden_modules
from recomind.export.verify import main
from recomind.policy import PolicyConfig
from recomind.streams import make_generator
from tests.export.tiny import LENGTH, NAMES, NUM_ITEMS, TASKS, catalogue, network, settings


def test_export_is_checked_in_a_fresh_process(trained, tmp_path):
    folder = tmp_path / "scorer"
    report = export_and_verify(folder, trained, settings(), num_states=80, num_candidates=9)
    assert report["passed"]
    assert report["max_abs_difference"] <= 1e-5
    assert report["forbidden_modules_loaded"] == []
    assert json.loads((folder / "parity.json").read_text()) == report
    assert set(read_manifest(folder, "scorer").files) == {
        "catalogue.json",
        "catalogue.safetensors",
        "weights.safetensors",
        "golden.safetensors",
        "parity.json",
    }
    manifest = read_manifest(folder, "scorer")
    # These settings are of before the support's exception had a name, and are read with one.
    without_density = {"support_keeps_ranker": False, "support_evidence": 1.64}
    config = {"policy": settings().config["policy"] | without_density}
    assert (manifest.seed, manifest.config, manifest.inputs) == (5, config, settings().inputs)
    golden = Golden.load(folder / "golden.safetensors")
    assert golden.q.shape == (80, 9)
    assert compare(load_scorer(folder), golden)["passed"]
    assert [p.name for p in tmp_path.iterdir()] == ["scorer"]


def test_a_difference_leaves_no_artifact(trained, tmp_path, monkeypatch):
    def spoiled(folder, network, record):
        weight = network.residual.weight
        with torch.no_grad():
            weight += 0.01
        try:
            return parity_module_export(folder, network, record)
        finally:
            with torch.no_grad():
                weight -= 0.01

    parity_module_export = parity_module.export_policy
    monkeypatch.setattr(parity_module, "export_policy", spoiled)
    with pytest.raises(ParityError, match="does not answer as the trained network does"):
        export_and_verify(
            tmp_path / "scorer", network(), settings(), num_states=20, num_candidates=5
        )
    assert list(tmp_path.iterdir()) == []


def test_golden_requests_survive_their_file(golden, tmp_path):
    golden.save(tmp_path / "golden.safetensors")
    loaded = Golden.load(tmp_path / "golden.safetensors")
    for name in ("item_id", "mask", "q", "utility", "supported", "order"):
        assert torch.equal(getattr(loaded, name), getattr(golden, name))
    assert (loaded.state == golden.state).all()
    assert len(loaded.head(7).state.step) == len(loaded.head(7).q) == 7


def test_a_policy_without_a_constraint_is_exported(tmp_path):
    # Then all candidates are supported, and the two masks of a request are one tensor.
    free = network(PolicyConfig(support_ratio=0.0))
    report = export_and_verify(
        tmp_path / "scorer", free, settings(), num_states=20, num_candidates=5
    )
    golden = Golden.load(tmp_path / "scorer" / "golden.safetensors")
    assert report["passed"]
    assert torch.equal(golden.supported, golden.mask)


def test_golden_states_exercise_the_gaps_and_pad_them(golden):
    state = golden.state
    empty = ~state.history_mask.any(1)
    assert 0 < int(empty.sum()) < len(empty)
    assert torch.equal(state.history_gap_s > 0, state.history_mask)
    assert torch.equal(state.gap_s > 0, ~empty)


def test_a_foreign_tensor_file_is_refused(exported):
    with pytest.raises(ArtifactError, match="not golden requests"):
        Golden.load(exported / "weights.safetensors")


def changed(golden, name, value):
    fields = {f.name: getattr(golden, f.name) for f in dataclasses.fields(golden)}
    return Golden(**fields | {name: value})


def test_small_differences_pass_and_large_ones_do_not(trained, golden):
    scorer = PolicyScorer(trained, NAMES)
    assert compare(scorer, golden)["max_abs_difference"] == 0.0
    assert compare(scorer, changed(golden, "q", golden.q + 9e-6))["passed"]
    report = compare(scorer, changed(golden, "q", golden.q + 2e-5))
    assert not report["passed"]
    assert report["max_abs_difference"] == pytest.approx(2e-5, rel=0.2)
    assert not compare(scorer, changed(golden, "utility", golden.utility - 1e-3))["passed"]


def test_padding_may_hold_anything(trained, golden):
    q = golden.q.masked_fill(~golden.mask, 99.0)
    assert not golden.mask.all()
    assert compare(PolicyScorer(trained, NAMES), changed(golden, "q", q))["passed"]


def test_another_order_is_found(trained, golden):
    order = golden.order.clone()
    order[4, :2] = order[4, :2].flip(0)
    report = compare(PolicyScorer(trained, NAMES), changed(golden, "order", order))
    assert (report["passed"], report["num_order_differences"]) == (False, 1)


def test_items_within_the_tolerance_may_change_places(trained, golden):
    slots = golden.order[4, :2]
    q = golden.q.clone()
    q[4, slots] = q[4, slots].mean()
    order = golden.order.clone()
    order[4, :2] = slots.flip(0)
    near = changed(changed(golden, "q", q), "order", order)
    assert compare(PolicyScorer(trained, NAMES), near)["num_order_differences"] == 0


def test_the_constraint_keeps_its_place_even_between_equal_values(trained, golden):
    row = int((golden.supported.sum(1) < golden.mask.sum(1)).nonzero()[0, 0])
    border = int(golden.supported[row].sum())
    inside, outside = golden.order[row, border - 1 : border + 1].tolist()
    q, order = golden.q.clone(), golden.order.clone()
    q[row, inside] = golden.utility[row, outside]
    order[row, border - 1 : border + 1] = torch.tensor([outside, inside])
    crossed = changed(changed(golden, "q", q), "order", order)
    assert compare(PolicyScorer(trained, NAMES), crossed)["num_order_differences"] == 1


def test_every_request_has_a_candidate(trained):
    alone = make_golden(
        PolicyScorer(trained, NAMES), make_generator(1), num_states=60, num_candidates=1
    )
    assert bool(alone.mask.all())


def test_another_support_is_found(trained, golden):
    supported = golden.supported.clone()
    supported[7, golden.order[7, 0]] = False
    report = compare(PolicyScorer(trained, NAMES), changed(golden, "supported", supported))
    assert (report["passed"], report["num_support_differences"]) == (False, 1)


def test_requests_exercise_every_input(golden):
    state = golden.state
    count = state.history_mask.sum(1)
    assert (count.min(), count.max()) == (0, LENGTH)
    assert bool((state.step <= count).all())
    assert bool((state.step > 0).any())
    assert not bool(state.history_item_id[~state.history_mask].any())
    assert not bool(state.history_feedback[~state.history_mask].any())
    assert bool(state.history_mask[:, 1:].ge(state.history_mask[:, :-1]).all()), "left padding"
    outside = golden.mask & ~golden.supported
    assert 0.1 < outside.float().mean() < 0.9, "the support constraint must matter"
    assert len(golden.item_id.unique()) == NUM_ITEMS


def test_users_come_from_the_start_states():
    start = random_states(catalogue(), TASKS, 3, LENGTH, 4, make_generator(0))
    drawn = random_states(catalogue(), TASKS, 3, LENGTH, 50, make_generator(1), start=start)
    known = {(int(u), *f.tolist()) for u, f in zip(start.user_id, start.user_features, strict=True)}
    users = zip(drawn.user_id, drawn.user_features, strict=True)
    assert {(int(u), *f.tolist()) for u, f in users} == known
    with pytest.raises(ConfigError, match="both >= 1"):
        random_states(catalogue(), TASKS, 3, LENGTH, 0, make_generator(1))


@pytest.mark.parametrize("name", ["ray", "ray.util", "recomind.training", "recomind.evaluation.x"])
def test_modules_that_serving_must_not_need_are_named(monkeypatch, name):
    monkeypatch.setattr(sys, "modules", {"rays": sys, "recomind.trainings": sys})
    assert forbidden_modules() == []
    monkeypatch.setattr(sys, "modules", {name: sys, "json": json})
    assert forbidden_modules() == [name]


def test_a_process_that_loaded_ray_fails_the_check(exported, golden, tmp_path):
    golden.save(tmp_path / "golden.safetensors")
    program = (
        "import sys, types; sys.modules['ray'] = types.ModuleType('ray');"
        "from recomind.export.verify import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, exported, tmp_path / "golden.safetensors"],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert (report["passed"], report["forbidden_modules_loaded"]) == (False, ["ray"])
    assert report["max_abs_difference"] <= 1e-5, "only the module is wrong"


def test_a_bad_folder_is_told_in_the_report(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "golden.safetensors")]) == 2
    assert "no scorer here" in json.loads(capsys.readouterr().out)["error"]
    assert main([]) == 2
    assert "recomind.export.verify SCORER GOLDEN" in capsys.readouterr().err


def test_stored_scores_are_those_of_the_trained_network(trained, golden):
    q, utility = trained.q_values(golden.state, golden.item_id)
    torch.testing.assert_close(golden.q, q.detach())
    torch.testing.assert_close(golden.utility, utility)
