"""Effects of items: found where they are, none where there are none, never from one's own row."""

from __future__ import annotations

import dataclasses
import math

import polars as pl
import pytest
import torch

from recomind.artifacts import Manifest
from recomind.data import SessionDataset, TableCatalogue
from recomind.errors import ArtifactError
from recomind.ranker import new_ranker, save_rankers
from recomind.simulation import (
    SimulatorConfig,
    check_environment,
    fit_holdout,
    fit_simulator,
    load_holdout,
    load_simulator,
)
from recomind.simulation.effects import (
    NUM_FOLDS,
    EffectsCatalogue,
    _fold_of,
    _Outcome,
    _scores,
    _shrunken,
    out_of_fold,
    with_effects,
    with_saved_effects,
)
from recomind.simulation.response import summaries
from recomind.simulation.summary import DECAY_STEPS, summarise
from recomind.streams import make_generator
from tests.simulation import tiny

NUM_ITEMS, LENGTH = 100, 12
BASE, LASTING = -2.5, 6.0  # logit of leaving without effects, and their decay in steps


def logs(num_sessions, on_leaving=0.0, on_likes=0.0, user_spread=0.0, few_items=False, seed=0):
    """Sessions of random items known by id alone; the last ten of a hundred have effects.

    Returns:
        The dataset, and which items have effects [N].
    """
    generator = make_generator(seed)
    special = torch.arange(NUM_ITEMS) >= 0.9 * NUM_ITEMS
    item_SL = torch.randint(NUM_ITEMS, (num_sessions, LENGTH), generator=generator)
    if few_items:  # a user meets one item again and again
        item_SL = item_SL[:, :1].expand(-1, LENGTH)
    uniform_SL2 = torch.rand(num_sessions, LENGTH, 2, generator=generator)
    user_S = user_spread * torch.randn(num_sessions, generator=generator)
    rows, carried_S = [], torch.zeros(num_sessions)
    inside_S = torch.ones(num_sessions, dtype=torch.bool)
    for step in range(LENGTH):
        like_S = uniform_SL2[:, step, 0] < (user_S + on_likes * carried_S).sigmoid()
        carried_S = carried_S * math.exp(-1 / LASTING) + special[item_SL[:, step]]
        left_S = uniform_SL2[:, step, 1] < (BASE + on_leaving * carried_S).sigmoid()
        for session in inside_S.nonzero()[:, 0].tolist():
            item, like, left = (x[session].item() for x in (item_SL[:, step], like_S, left_S))
            rows.append((session, step, item, int(like), left))
        inside_S &= ~left_S
    frame = pl.DataFrame(
        sorted(rows), schema=["session_id", "position", "item_id", "liked", "left"], orient="row"
    )
    split = pl.when(pl.col("session_id") < 0.7 * num_sessions).then(pl.lit("train"))
    frame = frame.with_columns(
        history_id=pl.col("session_id") // 2,
        user_id=pl.col("session_id") // 2,  # two a user
        time_ms=1000 * (pl.col("session_id") * 2 * LENGTH + pl.col("position")),
        dwell_s=1.0,
        left_known=True,
        propensity=1.0 / NUM_ITEMS,
        snapshot=0,
        round_index=0,
        holdout=pl.col("session_id") % 3 == 0,
        u_constant=0.0,
        split=split.when(pl.col("session_id") < 0.85 * num_sessions)
        .then(pl.lit("calibration"))
        .otherwise(pl.lit("test")),
    )
    catalogue = TableCatalogue(
        torch.zeros(1, NUM_ITEMS, 1),
        torch.arange(NUM_ITEMS)[:, None],
        dense_names=["constant"],
        categorical_names=["item"],
        vocab_sizes=[NUM_ITEMS],
    )
    dataset = SessionDataset(
        frame, catalogue, tasks=["liked"], user_feature_names=["constant"], history_length=LENGTH
    )
    return dataset, special


def expected(dataset, rows):
    """Rates by position: what a model that knows no items would say."""
    position, liked = dataset.position(rows), dataset.labels(rows)[:, 0]
    left, like, leave = dataset.left(rows).float(), torch.zeros(len(rows)), torch.zeros(len(rows))
    for step in position.unique():
        mine = position == step
        like[mine], leave[mine] = liked[mine].mean(), left[mine].mean()
    return like[:, None], leave


def effects_of(catalogue) -> EffectsCatalogue:
    assert isinstance(catalogue, EffectsCatalogue)
    return catalogue


def estimated(dataset):
    rows = dataset.rows()
    return with_effects(dataset, rows, *expected(dataset, rows))


def correlation(one, other):
    return torch.corrcoef(torch.stack([one.double(), other.double()]))[0, 1].item()


@pytest.mark.parametrize("on", ["leave", "liked"])
def test_what_items_do_is_found_and_put_down_to_the_right_outcome(on):
    by_leaving = on == "leave"
    dataset, special = logs(
        4000, on_leaving=0.9 if by_leaving else 0.0, on_likes=0.0 if by_leaving else -0.9
    )
    known, metrics = estimated(dataset)
    table = known.catalogue.features(torch.arange(NUM_ITEMS)).dense
    of = ["constant", "effect on leave", "effect on liked"]
    assert list(known.catalogue.dense_names) == of
    effect, other = table[:, of.index(f"effect on {on}")], table[:, 3 - of.index(f"effect on {on}")]
    sign = 1.0 if on == "leave" else -1.0
    assert correlation(effect * sign, special) > 0.8
    assert (effect * sign)[special].min() > (effect * sign)[~special].median()
    assert not other.any()
    assert metrics[f"item_effect.{on}"] == pytest.approx(0.9 * 0.3, rel=0.5)  # .9 of one in ten
    assert metrics[f"item_effect_evidence.{on}"] > 5


@pytest.mark.parametrize("seed", range(4))
def test_where_items_do_nothing_there_is_no_effect(seed):
    dataset, _ = logs(1500, seed=seed)
    known, metrics = estimated(dataset)
    assert not effects_of(known.catalogue).table_NE.any()
    assert metrics["item_effect.leave"] == metrics["item_effect.liked"] == 0.0


def test_what_users_have_in_common_with_themselves_is_no_effect_of_items():
    dataset, _ = logs(1500, user_spread=2.0, few_items=True)
    rows = dataset.rows()
    like_RH, leave_R = expected(dataset, rows)
    outcome = _Outcome(
        rows=rows, label_R=dataset.labels(rows)[:, 0], expected_R=like_RH[:, 0], after=False
    )
    score_DKN, information_DKN = _scores(dataset, outcome)
    total, information = score_DKN[1].sum(0), information_DKN[1].sum(0)
    assert float((total**2 / information).mean()) > 3  # if events were independent: 1
    known, _ = with_effects(dataset, rows, like_RH, leave_R)
    assert not effects_of(known.catalogue).table_NE[:, 1].any()


@pytest.mark.parametrize("after", [True, False])
def test_scores_are_the_sums_of_the_formula(after):
    dataset, _ = logs(25, on_leaving=0.9)
    rows = dataset.rows()
    like_RH, leave_R = expected(dataset, rows)
    label_R, p_R = dataset.left(rows).float(), leave_R if after else like_RH[:, 0]
    outcome = _Outcome(rows=rows, label_R=label_R, expected_R=p_R, after=after)
    slow = torch.zeros(2, len(DECAY_STEPS), NUM_FOLDS, NUM_ITEMS, dtype=torch.float64)
    for place, row in enumerate(rows.tolist()):
        fold = int(_fold_of(dataset, rows[place : place + 1]))
        p, y = float(p_R[place]), float(label_R[place])
        session = int(dataset.session_index(rows)[place])
        earlier = [r for r in rows.tolist() if dataset.session_index(rows)[r] == session]
        shown = [r for r in earlier if r < row or (after and r == row)]
        for d, steps in enumerate(DECAY_STEPS):
            for age, past in enumerate(reversed(shown)):
                weight = math.exp(-age / steps)
                item = int(dataset.item_id(torch.tensor([past])))
                slow[0, d, fold, item] += weight * (y - p)
                slow[1, d, fold, item] += weight**2 * p * (1 - p)
    torch.testing.assert_close(torch.stack(_scores(dataset, outcome)), slow)


def test_effects_are_scores_shrunken_by_one_ridge_with_and_without_a_fold():
    generator = make_generator(0)
    information_KN = 2 + 8 * torch.rand(NUM_FOLDS, 400, generator=generator, dtype=torch.float64)
    true_N = 0.5 * torch.randn(400, generator=generator, dtype=torch.float64)
    noise_KN = torch.randn(NUM_FOLDS, 400, generator=generator, dtype=torch.float64)
    score_KN = information_KN * true_N + information_KN.sqrt() * noise_KN
    found = _shrunken(score_KN, information_KN)
    assert found.spread == pytest.approx(0.5, rel=0.15)
    ridge_N = score_KN.sum(0) / found.table_N - information_KN.sum(0)
    torch.testing.assert_close(ridge_N, ridge_N.median().expand(400), rtol=1e-3, atol=1e-2)
    assert float(ridge_N.median()) == pytest.approx(1 / 0.5**2, rel=0.4)
    for fold in range(NUM_FOLDS):
        rest = [k for k in range(NUM_FOLDS) if k != fold]
        without_N = score_KN[rest].sum(0) / (information_KN[rest].sum(0) + ridge_N.median())
        torch.testing.assert_close(found.without_KN[fold].double(), without_N, rtol=1e-3, atol=1e-4)
    shrunken = (found.table_N - true_N).square().mean()
    raw = (score_KN.sum(0) / information_KN.sum(0) - true_N).square().mean()
    assert shrunken < raw


def test_a_row_sees_effects_that_were_estimated_without_its_user():
    dataset, _ = logs(600, on_leaving=0.9)
    known, _ = estimated(dataset)
    rows = dataset.rows()[torch.randperm(len(dataset), generator=make_generator(0))]

    def seen(part, chosen):
        return part.catalogue.features(part.item_id(chosen)).dense[:, 1]

    got, without_KNE = out_of_fold(known, rows, seen), effects_of(known.catalogue).without_KNE
    assert without_KNE is not None
    for place in range(0, len(rows), 7):
        fold, item = int(_fold_of(known, rows)[place]), known.item_id(rows)[place]
        assert got[place] == without_KNE[fold, item, 0]
    assert (got != seen(known, rows)).float().mean() > 0.9
    crossed = summaries(known, rows, after=True)
    for place in (0, len(rows) // 2):
        part = known.with_catalogue(
            effects_of(known.catalogue).without(int(_fold_of(known, rows)[place]))
        )
        alone = summarise(part.next_state(rows[place : place + 1]), part.catalogue)[0]
        torch.testing.assert_close(crossed[place], alone)
    assert torch.equal(out_of_fold(dataset, rows, lambda d, r: d.item_id(r)), dataset.item_id(rows))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Simulators of a log with effects on leaving, with and without them, and their ranker."""
    root = tmp_path_factory.mktemp("effects")
    dataset, special = logs(8000, on_leaving=1.2)
    config = dataclasses.replace(tiny.RANKER, utility_weights={"liked": 1.0})
    rankers = [new_ranker(dataset, config, seed).precompute_items() for seed in (0, 1)]
    save_rankers(root / "ranker", rankers, dataset.catalogue, Manifest(kind="ranker"))
    auc = {}
    for name, item_effects in (("with", True), ("plain", False)):
        config = SimulatorConfig(
            horizon=LENGTH, hidden=8, num_epochs=4, batch_size=256, item_effects=item_effects
        )
        learned, trees = Manifest(kind=""), Manifest(kind="")
        fit_simulator(root / name, rankers, dataset, config, learned, seed=0)
        fit_holdout(root / f"trees_{name}", dataset, config, trees, seed=0)
        auc[name] = (learned.metrics, trees.metrics)
    return root, special, auc


def test_a_simulator_knows_who_will_leave_by_what_was_shown(fitted):
    root, special, metrics = fitted
    assert metrics["with"][0]["auc.leave"] > metrics["plain"][0]["auc.leave"] + 0.05
    assert metrics["with"][0]["item_effect.leave"] > 0.1
    assert metrics["with"][1]["item_effect.leave"] > 0.1  # of trees: other users, later days
    for name, bad_minus_good in (("with", 0.05), ("plain", None)):
        for env in (
            load_simulator(root / name, root / "ranker", {"liked": 1.0}),
            load_holdout(root / f"trees_{name}", {"liked": 1.0}),
        ):
            leaving = []
            for item in (special.nonzero()[0], (~special).nonzero()[0]):
                env.reset(2000, make_generator(0))
                env.step(item.expand(2000))
                step = env.step(item.expand(2000))
                assert step.response.leave_rate is not None
                leaving.append(step.response.leave_rate.mean())
            if bad_minus_good is None:
                assert abs(leaving[0] - leaving[1]) < 0.02
            else:
                assert leaving[0] - leaving[1] > bad_minus_good


def test_simulators_with_effects_keep_the_contract(fitted):
    root = fitted[0]
    env = load_simulator(root / "with", root / "ranker", {"liked": 1.0})
    assert effects_of(env.catalogue).effects == ("leave", "liked")
    check_environment(env)
    check_environment(load_holdout(root / "trees_with", {"liked": 1.0}))


def test_what_a_running_session_adds_up_is_what_its_history_says(fitted):
    root = fitted[0]
    env = load_simulator(root / "with", root / "ranker", {"liked": 1.0})
    env.reset(50, make_generator(0), auto_reset=True)
    for step in range(20):
        state = env.step(torch.randint(NUM_ITEMS, (50,), generator=make_generator(step))).state
        plain = load_simulator(root / "with", root / "ranker", {"liked": 1.0})
        torch.testing.assert_close(env.hazard(state), plain.hazard(state), atol=1e-5, rtol=1e-4)
    assert effects_of(env._running.summary.catalogue).table_NE.any()


def test_effects_are_of_one_catalogue_and_of_what_it_had_when_they_were_estimated(fitted, tmp_path):
    root = fitted[0]
    known = effects_of(load_simulator(root / "with", root / "ranker", {"liked": 1.0}).catalogue)
    known.save_effects(tmp_path)
    read = effects_of(with_saved_effects(tmp_path, known.base))
    assert torch.equal(read.table_NE, known.table_NE)
    assert read.effects == known.effects == ("leave", "liked")

    def catalogue(num_items):
        return TableCatalogue(
            torch.zeros(1, num_items, 1),
            torch.zeros(num_items, 1, dtype=torch.int64),
            dense_names=["constant"],
            categorical_names=["item"],
            vocab_sizes=[1],
        )

    smaller, larger = catalogue(NUM_ITEMS - 1), catalogue(NUM_ITEMS + 2)
    with pytest.raises(ArtifactError, match="belong to another catalogue"):
        with_saved_effects(tmp_path, smaller)
    assert with_saved_effects(tmp_path / "none", smaller) is smaller
    grown = effects_of(with_saved_effects(tmp_path, larger)).table_NE
    assert torch.equal(grown[:NUM_ITEMS], known.table_NE)
    assert not grown[NUM_ITEMS:].any()
