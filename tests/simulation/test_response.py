"""The parts of the response model against slow, obviously right versions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recomind.data import TableCatalogue
from recomind.data.exploring import exploring_rows
from recomind.errors import ConfigError
from recomind.ranker import predict
from recomind.simulation import SimulatorConfig
from recomind.simulation.dwell import DwellModel, fit_dwell
from recomind.simulation.response import (
    Coupling,
    Fit,
    SummaryNet,
    calibrated,
    fatigue_loss,
    fit_exploring,
    fit_fatigue,
    fit_leave,
    fit_network,
    joint_feedback,
    joint_rate,
    leave_loss,
    summaries,
    task_couplings,
)
from recomind.simulation.summary import SessionSummary, summarise
from recomind.streams import make_generator
from tests.simulation.tiny import SIMULATOR, tiny_catalogue, tiny_dataset, tiny_world


def normal(*shape, seed=0):
    return torch.randn(shape, generator=make_generator(seed))


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=make_generator(seed))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


# Losses.


@pytest.mark.parametrize("seed", range(5))
def test_fatigue_loss_is_the_entropy_of_the_product(seed):
    fatigue, match = 2 * normal(6, 3, seed=seed), 2 * normal(6, 3, seed=seed + 100)
    labels = (uniform(6, 3, seed=seed) < 0.5).float()
    total = 0.0
    for b in range(6):
        for h in range(3):
            p = sigmoid(fatigue[b, h].item()) * sigmoid(match[b, h].item())
            total -= math.log(p) if labels[b, h] else math.log(1 - p)
    assert fatigue_loss(fatigue, match, labels).item() == pytest.approx(total / 18, rel=1e-4)


def test_fatigue_loss_stays_finite_where_everything_is_certain():
    certain, labels = torch.full((2, 2), 60.0), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    fatigue = certain.clone().requires_grad_()
    loss = fatigue_loss(fatigue, certain, labels)
    loss.backward()
    assert math.isfinite(loss.item())
    assert fatigue.grad is not None
    assert bool(fatigue.grad.isfinite().all())


def test_leave_loss_is_the_entropy_of_the_events_whose_outcome_is_known():
    logits, labels = 2 * normal(8, 1), torch.tensor([1.0, 0, 0, 1, 0, 1, 1, 0])
    known = torch.tensor([1.0, 1, 0, 1, 1, 0, 1, 0])
    terms = [
        -math.log(sigmoid(x) if y else 1 - sigmoid(x))
        for x, y, k in zip(logits[:, 0].tolist(), labels.tolist(), known.tolist(), strict=True)
        if k
    ]
    assert leave_loss(logits, known, labels).item() == pytest.approx(sum(terms) / 5, rel=1e-5)


def test_a_censored_event_adds_nothing():
    logits, labels = normal(4, 1).requires_grad_(), torch.tensor([1.0, 0.0, 0.0, 1.0])
    known = torch.tensor([1.0, 1.0, 0.0, 0.0])
    loss = leave_loss(logits, known, labels)
    flipped = leave_loss(logits, known, torch.tensor([1.0, 0.0, 1.0, 0.0]))
    alone = leave_loss(logits[:2], known[:2], labels[:2])
    assert loss.item() == flipped.item() == alone.item()
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[2:].abs().sum().item() == 0 < logits.grad[:2].abs().min().item()
    assert leave_loss(logits, torch.zeros(4), labels).item() == 0.0


# Networks.


def planted(loss_inputs, labels, loss, num_outputs, bias):
    inputs = normal(4_000, 2, seed=1) * 3 + 10  # far from standardised
    tired = inputs[:, 0] > 10
    torch.manual_seed(0)
    net = SummaryNet(2, num_outputs, 8, bias)
    fit = Fit(inputs, loss_inputs(tired), labels(tired))
    config = SimulatorConfig(num_epochs=25, batch_size=256, learning_rate=2e-2)
    fit_network(net, fit, Fit(inputs[:0], fit.context[:0], fit.labels[:0]), loss, config, seed=0)
    with torch.no_grad():
        p = net(inputs)[:, 0].sigmoid()
    return p[inputs[:, 0] > 11].mean().item(), p[inputs[:, 0] < 9].mean().item()


def test_the_factor_falls_for_users_who_have_tired_of_everything():
    """The match says .5 everywhere; who is tired never responds."""
    tired, rested = planted(
        lambda tired: torch.zeros(len(tired), 1),
        lambda tired: ((uniform(len(tired), seed=2) < 0.5) & ~tired).float()[:, None],
        fatigue_loss,
        num_outputs=1,
        bias=4.0,
    )
    assert tired < 0.1
    assert rested > 0.85


def test_the_hazard_is_learnt_from_the_known_events():
    """Who is tired leaves with .6, others with .1; half of the outcomes are unknown, and lie."""
    known = uniform(4_000, seed=5) < 0.5
    tired, rested = planted(
        lambda tired: known.float(),
        lambda tired: torch.where(
            known, uniform(len(tired), seed=2) < torch.where(tired, 0.6, 0.1), torch.tensor(True)
        ).float(),
        leave_loss,
        num_outputs=1,
        bias=0.0,
    )
    assert tired == pytest.approx(0.6, abs=0.08)
    assert rested == pytest.approx(0.1, abs=0.05)


def test_the_best_epoch_on_the_held_out_rows_is_kept():
    """Where held-out labels contradict the training labels, the first weights stay best."""
    inputs = normal(500, 2)
    train = Fit(inputs, torch.ones(500), torch.ones(500))
    held_out = Fit(inputs, torch.ones(500), torch.zeros(500))
    outcome = []
    for epochs in (1, 12):
        torch.manual_seed(0)
        net = SummaryNet(2, 1, 8)
        config = SimulatorConfig(num_epochs=epochs, batch_size=100)
        fit_network(net, train, held_out, leave_loss, config, seed=0)
        outcome.append(net(inputs))
    assert torch.equal(*outcome)


def test_fatigue_and_hazards_are_deterministic_and_leave_the_generator_alone(rankers, dataset):
    rows, later = dataset.rows("train")[:300], dataset.rows("calibration")[:100]
    torch.manual_seed(7)
    before = torch.get_rng_state()
    nets = [
        (
            fit_fatigue(rankers[0], dataset, rows, later, SIMULATOR, 3),
            fit_leave(dataset, rows, later, SIMULATOR, seed),
        )
        for seed in (3, 3, 4)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    inputs = summaries(dataset, rows, after=False, categories=True)
    assert torch.equal(nets[0][0](inputs), nets[1][0](inputs))
    inputs = summaries(dataset, rows, after=True, categories=True)
    assert torch.equal(nets[0][1](inputs), nets[1][1](inputs))
    assert not torch.equal(nets[0][1](inputs), nets[2][1](inputs))


# Dwell.


def test_dwell_depends_on_the_item_and_on_the_feedback():
    dataset = tiny_dataset()
    config = SimulatorConfig(num_epochs=20, batch_size=256, hidden=16)
    model = fit_dwell(dataset, dataset.rows("train"), dataset.rows("calibration"), config, seed=0)
    content = tiny_catalogue().features(torch.arange(300)).dense
    order = content[:, 1].argsort()  # log duration
    short, long = content[order[:60]], content[order[-60:]]
    watched = torch.tensor([True, True, False, False]).expand(60, 4)
    skipped = torch.zeros(60, 4, dtype=torch.bool)
    half = torch.full((60,), 0.5)
    with torch.no_grad():
        long_watch, short_watch = (model.sample(c, watched, half).mean() for c in (long, short))
        long_skip = model.sample(long, skipped, half).mean()
    truth = dataset.dwell_s(dataset.rows("train"))
    assert float(long_watch) > 2 * float(short_watch)
    assert float(long_watch) > 5 * float(long_skip)
    assert float(long_watch) < float(truth.max())


@torch.no_grad()
def test_dwell_is_the_quantile_of_the_residual():
    torch.manual_seed(0)
    model = DwellModel(num_dense=2, num_tasks=1, num_quantiles=4, hidden=4)
    model.quantiles_CQ.copy_(torch.tensor([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]))
    u = torch.tensor([0.0, 0.125, 0.25, 0.5, 0.875, 1.0])
    for value, expected in ((False, [0, 0, 0.5, 1.5, 3, 3]), (True, [4, 4, 4.5, 5.5, 7, 7])):
        feedback = torch.full((6, 3), value)
        seconds = model.sample(torch.zeros(6, 2), feedback, u)  # the location begins at zero
        assert torch.log1p(seconds).tolist() == pytest.approx(expected, abs=1e-4)


# Joint feedback.


def draws_of(probabilities, couplings, num=200_000):
    p = torch.tensor(probabilities).expand(num, -1)
    return joint_feedback(p, uniform(num, len(probabilities), seed=3), couplings).float()


def test_marginals_are_kept_and_combinations_that_never_occur_do_not_occur():
    p = [0.4, 0.25, 0.3, 0.2, 0.1]
    couplings = [
        Coupling.shared,
        Coupling.shared,
        Coupling.with_view,
        Coupling.without_view,
        Coupling.independent,
    ]
    drawn = draws_of(p, couplings)
    for column, probability in zip(drawn.T, p, strict=True):
        error = math.sqrt(probability * (1 - probability) / len(drawn))
        assert abs(float(column.mean()) - probability) < 4 * error
    view, shared, with_view, without_view, independent = drawn.bool().T
    assert not bool((shared & ~view).any())
    assert not bool((with_view & ~view).any())
    assert not bool((without_view & view).any())
    assert float(independent[view].float().mean()) == pytest.approx(0.1, abs=0.005)
    assert float(with_view[view].float().mean()) == pytest.approx(0.75, abs=0.01)


def test_a_task_likelier_than_its_view_is_drawn_as_often_as_it_can_be():
    view, with_view = draws_of([0.2, 0.5], [Coupling.shared, Coupling.with_view]).bool().T
    assert torch.equal(view, with_view)


def test_the_rates_of_feedback_are_how_often_it_is_drawn():
    p = [0.4, 0.25, 0.6, 0.8, 0.1]  # the third and fourth cannot occur as often as they are said to
    couplings = [
        Coupling.shared,
        Coupling.shared,
        Coupling.with_view,
        Coupling.without_view,
        Coupling.independent,
    ]
    drawn = draws_of(p, couplings)
    rate = joint_rate(torch.tensor([p]), couplings)[0]
    assert rate[2] == 0.4
    assert float(rate[3]) == pytest.approx(0.6)
    error = (rate * (1 - rate) / len(drawn)).sqrt()
    assert bool(((drawn.mean(0) - rate).abs() < 4 * error).all())


@given(
    p=st.lists(st.floats(0, 1), min_size=2, max_size=5),
    kinds=st.lists(st.sampled_from(list(Coupling)), min_size=5, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_certain_and_impossible_views_are_drawn_so(p, kinds):
    drawn = draws_of(p, kinds, num=50).bool()
    assert drawn.shape == (50, len(p))
    if p[0] == 0.0:
        assert not bool(drawn[:, 0].any())
    for h, kind in enumerate(kinds[1 : len(p)], start=1):
        if kind is Coupling.with_view:
            assert not bool((drawn[:, h] & ~drawn[:, 0]).any())
        if kind is Coupling.without_view:
            assert not bool((drawn[:, h] & drawn[:, 0]).any())


def test_couplings_are_read_off_the_logs():
    n = 20_000
    view = uniform(n) < 0.4
    labels = torch.stack(
        [
            view,
            view & (uniform(n, seed=1) < 0.9),  # phi of about .9
            view & (uniform(n, seed=2) < 0.1),
            ~view & (uniform(n, seed=3) < 0.1),
            uniform(n, seed=4) < 0.1,
            torch.zeros(n, dtype=torch.bool),
        ],
        dim=1,
    )
    assert task_couplings(labels.float()) == [
        Coupling.shared,
        Coupling.shared,
        Coupling.with_view,
        Coupling.without_view,
        Coupling.independent,
        Coupling.independent,
    ]


def test_the_worlds_own_couplings():
    """A long view goes with the watch, a like needs it, a hide mostly needs its absence."""
    dataset = tiny_dataset()
    couplings = task_couplings(dataset.labels(dataset.rows("train")))
    assert couplings[1:3] == [Coupling.shared, Coupling.with_view]


# Summary.


def test_the_summary_has_its_width_and_sees_the_session_alone():
    world = tiny_world()
    state = world.reset(20, make_generator(0))
    fresh = summarise(state, world.catalogue)
    assert fresh.shape == (20, SessionSummary(world.catalogue, categories=False).size(4, 9))
    assert fresh.shape[1] == 3 * (4 + 2 + 2 * 3) + 3 + 9
    sums = fresh[:, : -3 - 9]
    assert not bool(sums.any())  # the warm history is not of this session
    state = world.step(torch.arange(20)).state
    after = summarise(state, world.catalogue)
    num = 4 + 2 + 2 * 3
    for scale in range(3):
        block = after[:, scale * num : (scale + 1) * num]
        assert torch.equal(block[:, :4], state.history_feedback[:, -1].float())
        assert torch.equal(block[:, 5], torch.ones(20))
        assert torch.allclose(block[:, 4], (state.history_dwell_s[:, -1] / 60).clamp(max=10))
        content = world.catalogue.features(torch.arange(20)).dense
        assert torch.allclose(block[:, 6:9], content)
        assert torch.allclose(block[:, 9:], content * block[:, :1])
    assert torch.equal(after[:, -9:], state.user_features)


def test_older_events_fade_from_the_summary():
    world = tiny_world(horizon=10)
    world.reset(200, make_generator(0))
    for item in range(5):
        step = world.step(torch.full((200,), item))
    counts = summarise(step.state, world.catalogue)[step.valid][:, [5, 17, 29]]
    expected = [sum(math.exp(-age / scale) for age in range(5)) for scale in (2.0, 6.0, 1e9)]
    assert counts[0].tolist() == pytest.approx(expected, rel=1e-4)


def category_world():
    """A tiny world; items have a category of 3 values, and another of as many as there are."""
    world = tiny_world(horizon=10)
    num, dense = world.catalogue.num_items, world.catalogue.features(torch.arange(300)).dense
    assert num == len(dense)
    world.catalogue = TableCatalogue(
        dense[None],
        torch.stack([torch.arange(num) % 3, torch.arange(num)], dim=1),
        dense_names=world.catalogue.dense_names,
        categorical_names=["topic", "maker"],
        vocab_sizes=[3, num],
    )
    return world


def test_categories_with_few_values_are_summed_up_a_column_each():
    world = category_world()
    plain, summary = (SessionSummary(world.catalogue, categories=c) for c in (False, True))
    world.reset(50, make_generator(0))
    for item in (0, 3, 4):
        step = world.step(torch.full((50,), item))
    found = summary(step.state)[step.valid]
    columns, largest, likeness = 3 * 2 * 3, 3 * 2, 3 * 2 * 3  # and no column a maker
    assert summary.size(4, 9) == plain.size(4, 9) + columns + largest + likeness
    sums = found[:, : 3 * (4 + 2 + 2 * 6)].unflatten(1, (3, -1))
    by_topic = sums[:, 2, 4 + 2 + 3 : 4 + 2 + 6]  # shown, the slowest decay
    assert torch.allclose(by_topic, torch.tensor([2.0, 1.0, 0.0]).expand(len(found), 3))
    most = found[:, -summary.num_likeness - 6 : -summary.num_likeness]
    assert torch.allclose(most[:, :3], sums[:, :, 9:12].amax(2))
    assert torch.allclose(most[:, 3:], sums[:, :, 15:18].amax(2))
    assert bool((most[:, 2] == 2.0).all())


def test_likeness_counts_what_an_item_has_in_common_with_the_session():
    world = category_world()
    summary = SessionSummary(world.catalogue, categories=True)
    fresh, shown = world.reset(50, make_generator(0)), torch.zeros(50, dtype=torch.int64)
    assert not bool(summary(fresh, shown=shown)[:, -2 * summary.num_likeness :].any())
    for item in (0, 3, 4, 0):
        step = world.step(torch.full((50,), item))
    state = step.state[step.valid]
    both = summary(state, shown=shown[: len(state.step)])[:, -2 * summary.num_likeness :]
    latest, found = both.chunk(2, dim=1)
    assert torch.equal(latest, found)  # the latest event's item is 0 too
    found = found.unflatten(1, (3, 2, 3))  # the same item, topic, maker; shown or liked; decay
    assert torch.allclose(found[:, :, 0, 2], torch.tensor([2.0, 3.0, 2.0]).expand(len(found), 3))
    newest = torch.tensor(math.exp(-3 / 2) + 1.0)
    assert torch.allclose(found[:, 0, 0, 0], newest.expand(len(found)))
    liked = (state.history_feedback[:, -4:, 0] * torch.tensor([1, 0, 0, 1])).sum(1).float()
    assert torch.allclose(found[:, 0, 1, 2], liked)
    assert bool(liked.any())


# Config.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 0}, "simulation.horizon; got: 0"),
        ({"dwell_quantiles": 0}, "simulation.dwell_quantiles"),
        ({"deviation_k": -0.1}, "deviation_k"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        SimulatorConfig(**changes)


# Calibration on what chance chose.


def test_on_exploring_rows_the_mean_of_what_is_predicted_is_the_mean_of_what_happened(
    rankers, dataset
):
    rows = dataset.rows()
    chance = rows[exploring_rows(dataset, rows)[0]]
    summary = summaries(dataset, chance, after=False)
    fatigue_nets = [
        SummaryNet(summary.shape[1], 4, 8, bias=-1.0) for _ in rankers
    ]  # far from right
    maps = fit_exploring(rankers, fatigue_nets, dataset, rows)
    for ranker, fatigue, calibration in zip(rankers, fatigue_nets, maps, strict=True):
        logits, labels = predict(ranker, dataset, chance)
        before = logits.sigmoid() * fatigue(summary).sigmoid().detach()
        assert float((before - labels).mean(0)[0].abs()) > 0.1
        after = calibrated(calibration, before)
        assert torch.allclose(after.mean(0), labels.mean(0), atol=1e-3)


def test_few_exploring_rows_calibrate_nothing(rankers, dataset):
    rows = dataset.rows()
    chance = rows[exploring_rows(dataset, rows)[0]]
    assert len(fit_exploring(rankers, [], dataset, chance[:200])) == len(rankers)
    assert fit_exploring(rankers, [], dataset, chance[:199]) == []
    assert fit_exploring(rankers, [], dataset, rows[:0]) == []
