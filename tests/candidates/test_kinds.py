"""What holds for every kind of exploration: exact propensities, the mask, no order of the pool."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recomind.candidates import (
    EnsembleExploration,
    Exploration,
    ExplorationConfig,
    ExplorationKind,
    SoftmaxExploration,
    SubsetExploration,
    UniformExploration,
    best_slot,
    make_exploration,
)
from recomind.candidates.draws import item_uniforms
from recomind.errors import ConfigError, SchemaError
from recomind.policy import decide
from recomind.streams import SessionStreams, draw_seeds, make_generator
from recomind.types import Candidates

few = settings(deadline=None, max_examples=40, derandomize=True)
KINDS = list(ExplorationKind)
MEMBERS = 3


def uniforms(num: int, seed: int = 0) -> Tensor:
    seeds = draw_seeds(num, make_generator(seed))
    return SessionStreams(seeds).uniform(torch.zeros(num, dtype=torch.int64), 4, lane=2)


def of_kind(kind: ExplorationKind, epsilon: float, size: int = 4, tau: float = 0.7) -> Exploration:
    return make_exploration(
        ExplorationConfig(kind=kind, epsilon=epsilon, subset_size=size, temperature=tau)
    )


Pool = tuple[Tensor, Tensor, Tensor]  # member scores [E, 8, K], allowed, item ids


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Scores with many ties, allowed slots with at least one, distinct item ids."""
    num = draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    scores = torch.randint(-2, 3, (MEMBERS, 8, num), generator=generator).float()
    allowed = torch.rand(8, num, generator=generator) < draw(st.floats(0.1, 1))
    allowed[:, draw(st.integers(0, num - 1))] = True
    item_id = torch.stack([torch.randperm(50, generator=generator)[:num] for _ in range(8)])
    return scores, allowed, item_id


def seen_by(exploration: Exploration, scores_EBK: Tensor) -> Tensor:
    """All members for an ensemble, the first one's scores for the others."""
    return scores_EBK if isinstance(exploration, EnsembleExploration) else scores_EBK[0]


@few
@given(pools(), st.sampled_from(KINDS), st.floats(0, 1), st.integers(1, 14))
def test_propensities_sum_to_one_over_the_allowed(
    pool: Pool, kind: ExplorationKind, epsilon: float, size: int
) -> None:
    scores, allowed, item_id = pool
    exploration = of_kind(kind, epsilon, size)
    log_BK = exploration.log_propensities(seen_by(exploration, scores), allowed, item_id)
    assert log_BK.dtype == torch.float32
    assert (log_BK[~allowed] == -math.inf).all()
    torch.testing.assert_close(log_BK.double().exp().sum(1), torch.ones(8).double())


@few
@given(pools(), st.sampled_from(KINDS), st.floats(0, 1), st.integers(0, 1000))
def test_the_choice_is_allowed_and_its_propensity_is_that_of_the_distribution(
    pool: Pool, kind: ExplorationKind, epsilon: float, seed: int
) -> None:
    scores, allowed, item_id = pool
    exploration = of_kind(kind, epsilon)
    closed = seen_by(exploration, scores.masked_fill(~allowed, torch.nan))
    slot, log_propensity = exploration.choose(closed, allowed, uniforms(8, seed), item_id)
    assert allowed.gather(1, slot[:, None]).all()
    log_BK = exploration.log_propensities(closed, allowed, item_id)
    # One logarithm or many at once may differ in the last bit.
    torch.testing.assert_close(log_propensity, log_BK.gather(1, slot[:, None])[:, 0])
    assert log_propensity.isfinite().all()


@few
@given(pools(), st.sampled_from(KINDS), st.floats(0, 1), st.integers(0, 1000))
def test_order_of_the_pool_does_not_matter(
    pool: Pool, kind: ExplorationKind, epsilon: float, seed: int
) -> None:
    scores, allowed, item_id = pool
    exploration, draws = of_kind(kind, epsilon), uniforms(8, seed)
    scores = seen_by(exploration, scores)
    mixed = torch.randperm(item_id.shape[1], generator=torch.Generator().manual_seed(seed))
    slot, log_propensity = exploration.choose(scores, allowed, draws, item_id)
    slot_2, log_propensity_2 = exploration.choose(
        scores[..., mixed], allowed[:, mixed], draws, item_id[:, mixed]
    )
    chosen = item_id.gather(1, slot[:, None])
    assert torch.equal(chosen, item_id[:, mixed].gather(1, slot_2[:, None]))
    torch.testing.assert_close(log_propensity, log_propensity_2)  # sums in another order
    torch.testing.assert_close(
        exploration.log_propensities(scores, allowed, item_id)[:, mixed],
        exploration.log_propensities(scores[..., mixed], allowed[:, mixed], item_id[:, mixed]),
    )


def chi_square(count: Tensor, expected: Tensor) -> tuple[float, int]:
    """The statistic and its degrees of freedom; what is impossible must not have happened."""
    possible = expected > 0
    assert not count[~possible].any()
    cells = ((count - expected) ** 2 / expected)[possible]
    return float(cells.sum()), int(possible.sum()) - 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epsilon", [0.4, 1.0])
def test_frequencies_of_a_million_draws_agree(kind: ExplorationKind, epsilon: float) -> None:
    draws, num, generator = 1_000_000, 7, make_generator(4)
    scores = torch.randn(MEMBERS, 1, num, generator=generator)
    allowed = torch.tensor([[True, True, False, True, True, True, True]])
    item_id = torch.randperm(100, generator=generator)[None, :num]
    exploration = of_kind(kind, epsilon, size=2)
    one = seen_by(exploration, scores)
    count = torch.zeros(num, dtype=torch.float64)
    for part in uniforms(draws, seed=9).split(250_000):
        shape = (len(part), num)
        many = one.expand(*one.shape[:-2], *shape)
        slot, _ = exploration.choose(many, allowed.expand(shape), part, item_id.expand(shape))
        count += slot.bincount(minlength=num)
    expected = draws * exploration.log_propensities(one, allowed, item_id)[0].double().exp()
    chi2, freedom = chi_square(count, expected)
    assert chi2 < freedom + 4 * math.sqrt(2 * freedom)


@few
@given(pools(), st.integers(0, 1000))
def test_a_subset_of_all_is_greedy_and_of_one_uniform(pool: Pool, seed: int) -> None:
    scores, allowed, item_id = pool
    num = item_id.shape[1]
    slot, log_propensity = SubsetExploration(1.0, num).choose(
        scores[0], allowed, uniforms(8, seed), item_id
    )
    assert torch.equal(slot, best_slot(scores[0], allowed, item_id))
    assert log_propensity.abs().max() < 1e-6
    log_BK = SubsetExploration(1.0, 1).log_propensities(scores[0], allowed, item_id)
    uniform_BK = -allowed.sum(1, keepdim=True).float().log().expand_as(log_BK)
    torch.testing.assert_close(log_BK, uniform_BK.masked_fill(~allowed, -torch.inf))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_pool_of_100_000_stays_exact(kind: ExplorationKind, scale: float) -> None:
    num, generator = 100_000, make_generator(1)
    scores = scale * torch.randn(MEMBERS, 2, num, generator=generator)
    allowed = torch.rand(2, num, generator=generator) < 0.9
    item_id = torch.stack([torch.randperm(num, generator=generator) for _ in range(2)])
    exploration = of_kind(kind, 0.5, size=20, tau=0.1)
    scores = seen_by(exploration, scores)
    log_BK = exploration.log_propensities(scores, allowed, item_id)
    assert not log_BK.isnan().any()
    assert float((log_BK.double().exp().sum(1) - 1).abs().max()) < 1e-6
    slot, log_propensity = exploration.choose(scores, allowed, uniforms(2), item_id)
    torch.testing.assert_close(log_propensity, log_BK.gather(1, slot[:, None])[:, 0])


def test_softmax_propensity_is_the_softmax_over_the_allowed() -> None:
    scores, allowed = (
        torch.tensor([[0.5, 0.4, 9.0, 0.1]]),
        torch.tensor([[True, True, False, True]]),
    )
    got = SoftmaxExploration(0.1).log_propensities(scores, allowed)[0].exp()
    weights = torch.tensor([5.0, 4.0, 0.0, 1.0]).exp() * allowed[0]
    torch.testing.assert_close(got, weights / weights.sum())


def test_noise_does_not_tie_in_a_large_pool() -> None:
    """Uniforms of 23 bits would tie some 600 times in a row of 100,000."""
    noise = item_uniforms(uniforms(4)[:, 1:3], torch.arange(100_000).expand(4, -1))
    assert noise.unique().numel() == noise.numel()


def test_noise_of_an_item_is_uniform_and_unrelated_to_its_neighbours() -> None:
    noise = item_uniforms(uniforms(2000)[:, 1:3], torch.arange(50).expand(2000, 50))
    assert 0 < float(noise.min()) < float(noise.max()) < 1
    assert abs(float(noise.mean()) - 0.5) < 4 / math.sqrt(12 * noise.numel())
    off_diagonal = torch.corrcoef(noise.T) - torch.eye(50)
    assert float(off_diagonal.abs().max()) < 5 / math.sqrt(2000)
    assert float((torch.corrcoef(noise[:50]) - torch.eye(50)).abs().mean()) < 0.2


@pytest.mark.parametrize("score", [math.inf, -math.inf])
def test_infinite_scores_have_finite_propensities(score: float) -> None:
    scores, allowed = torch.full((1, 3), score), torch.tensor([[True, False, True]])
    got = SoftmaxExploration(1e-3).log_propensities(scores, allowed)
    torch.testing.assert_close(got[0].exp(), torch.tensor([0.5, 0.0, 0.5]))


def test_ensemble_shares_out_votes_over_a_uniform_floor() -> None:
    scores = torch.tensor([[3.0, 1, 2, 9], [3, 1, 2, 9], [0, 1, 2, 9], [5, 5, 2, 9]])[:, None]
    allowed, ids = torch.tensor([[True, True, True, False]]), torch.tensor([[8, 3, 5, 1]])
    got = EnsembleExploration(0.3).log_propensities(scores, allowed, ids)[0].exp()
    votes = torch.tensor([2.0, 1, 1, 0])  # the tie of the last member goes to item 3
    floor = 0.3 / 3 * torch.tensor([1.0, 1, 1, 0])
    torch.testing.assert_close(got, 0.7 * votes / 4 + floor)
    without = EnsembleExploration(0.0).log_propensities(scores[:2], allowed, ids)
    assert without[0].exp().tolist() == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_decides(kind: ExplorationKind) -> None:
    exploration = of_kind(kind, 0.5)
    item_id = torch.tensor([[7, 3, 9], [1, 4, 2]])
    mask = torch.tensor([[True, False, True], [True, True, True]])
    pool = Candidates(item_id=item_id, mask=mask, log_propensity=torch.zeros(2, 3), batch_size=[2])
    scores = seen_by(exploration, torch.randn(MEMBERS, 2, 3, generator=make_generator(0)))
    decision = decide(scores, mask, pool, uniforms(2), exploration)
    assert torch.equal(decision.item_id, item_id.gather(1, decision.slot[:, None])[:, 0])
    log_BK = exploration.log_propensities(scores, mask, item_id)
    expected = log_BK.gather(1, decision.slot[:, None])[:, 0]
    torch.testing.assert_close(decision.log_propensity, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_no_decisions_are_no_error(kind: ExplorationKind) -> None:
    exploration = of_kind(kind, 0.5)
    closed = torch.zeros(0, 4, dtype=torch.bool)
    slot, log_propensity = exploration.choose(
        seen_by(exploration, torch.zeros(MEMBERS, 0, 4)), closed, torch.zeros(0, 4)
    )
    assert slot.shape == log_propensity.shape == (0,)


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        (ExplorationKind.subset, SubsetExploration),
        (ExplorationKind.uniform, UniformExploration),
        (ExplorationKind.softmax, SoftmaxExploration),
        (ExplorationKind.ensemble, EnsembleExploration),
    ],
)
def test_the_factory_makes_what_the_config_names(
    kind: ExplorationKind, cls: type[Exploration]
) -> None:
    made = of_kind(kind, 0.25, size=9, tau=0.3)
    assert type(made) is cls
    assert made.epsilon == 0.25
    assert getattr(made, "temperature", 0.3) == 0.3
    assert getattr(made, "subset_size", 9) == (1 if cls is UniformExploration else 9)


SCORES, OPEN = torch.zeros(2, 3, 4), torch.ones(3, 4, dtype=torch.bool)
NAN = SCORES.clone()
NAN[1, 2, 0] = torch.nan


@pytest.mark.parametrize(
    ("exploration", "scores", "allowed", "draws", "message"),
    [
        (EnsembleExploration(0.1), SCORES[0], OPEN, torch.rand(3, 4), r"expected: \[E, B, K\]"),
        (EnsembleExploration(0.1), SCORES[:0], OPEN, torch.rand(3, 4), r"expected: \[E, B, K\]"),
        (EnsembleExploration(0.1), NAN, OPEN, torch.rand(3, 4), "NaN; got: 1 of 3 rows.* row 2"),
        (EnsembleExploration(0.1), SCORES, ~OPEN, torch.rand(3, 4), "no candidate is allowed"),
        (EnsembleExploration(0.1), SCORES, OPEN, torch.rand(3, 2), "uniforms"),
        (SoftmaxExploration(0.1), SCORES, OPEN, torch.rand(3, 4), r"one shape \[B, K\]"),
        (SoftmaxExploration(0.1), NAN[1], OPEN, torch.rand(3, 4), "NaN; got: 1 of 3 rows.* row 2"),
        (SoftmaxExploration(0.1), SCORES[0], ~OPEN, torch.rand(3, 4), "no candidate is allowed"),
        (SoftmaxExploration(0.1), SCORES[0], OPEN, torch.rand(3, 2), "uniforms"),
    ],
)
def test_bad_input_is_named(
    exploration: Exploration, scores: Tensor, allowed: Tensor, draws: Tensor, message: str
) -> None:
    with pytest.raises(SchemaError, match=message):
        exploration.choose(scores, allowed, draws)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftmaxExploration(0.0), "temperature; got: 0.0; expected: > 0"),
        (lambda: SoftmaxExploration(math.inf), "temperature"),
        (lambda: SoftmaxExploration(1.0, epsilon=1.5), "epsilon is not a probability"),
        (lambda: EnsembleExploration(-0.1), "epsilon is not a probability"),
        (lambda: UniformExploration(math.nan), "epsilon is not a probability"),
        (lambda: ExplorationConfig(temperature=-1.0), "temperature"),
        (lambda: ExplorationConfig(subset_size=0), "a subset needs a candidate"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
