"""Interests of a user: clusters, their queries, and how what they find is merged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, ward
from torch import Tensor

from recomind.artifacts import Manifest
from recomind.data import SessionDataset
from recomind.retrieval import (
    Retrieval,
    RetrievalConfig,
    create_live_index,
    load_retrieval,
)
from recomind.retrieval.interests import interests, round_robin, ward_clusters
from recomind.retrieval.retrieval import index_items
from recomind.retrieval.training import fit_towers
from recomind.retrieval.two_tower import history_vectors, liked_events, user_vectors
from recomind.streams import make_generator
from recomind.types import SessionState


def partition(labels: list[int]) -> set[frozenset[int]]:
    return {frozenset(i for i, n in enumerate(labels) if n == m) for m in set(labels)}


@given(seed=st.integers(0, 10_000), num=st.integers(2, 5), length=st.integers(2, 12))
@settings(max_examples=40, deadline=None)
def test_clusters_are_those_of_scipy(seed: int, num: int, length: int) -> None:
    generator = make_generator(seed)
    vectors = torch.randn(3, length, 4, generator=generator)
    mask = torch.rand(3, length, generator=generator) < 0.7
    labels = ward_clusters(vectors, mask, num)
    for row in range(3):
        place = mask[row].nonzero()[:, 0]
        if len(place) < 2:
            continue
        theirs = fcluster(ward(vectors[row, place].double().numpy()), num, "maxclust")
        assert partition(labels[row, place].tolist()) == partition(theirs.tolist())
        assert torch.equal(labels[row, ~mask[row]], (~mask[row]).nonzero()[:, 0])


def test_clustering_leaves_its_arguments_alone() -> None:
    vectors, mask = torch.randn(2, 6, 3, generator=make_generator(0)), torch.ones(2, 6) > 0
    copies = vectors.clone(), mask.clone()
    ward_clusters(vectors, mask, 2)
    assert torch.equal(vectors, copies[0])
    assert torch.equal(mask, copies[1])


def naive_round_robin(found: Tensor, num: int) -> list[int]:
    taken: list[int] = []
    for rank in range(found.shape[1]):
        for query in range(found.shape[0]):
            item = int(found[query, rank])
            if item >= 0 and item not in taken:
                taken.append(item)
    return (taken + [-1] * num)[:num]


@given(seed=st.integers(0, 10_000), num=st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_round_robin_against_a_loop(seed: int, num: int) -> None:
    found = torch.randint(-1, 12, (4, 3, num), generator=make_generator(seed))
    got = round_robin(found, num)
    assert got.tolist() == [naive_round_robin(row, num) for row in found]


@pytest.fixture(scope="module")
def several(dataset: SessionDataset) -> Retrieval:
    config = RetrievalConfig(dim=8, hidden=16, batch_size=128, num_epochs=3, num_queries=3)
    return index_items(fit_towers(dataset, config), dataset.catalogue, config)


@pytest.fixture(scope="module")
def state(dataset: SessionDataset) -> SessionState:
    return dataset.state(dataset.rows("calibration")[:300])


def test_an_interest_is_asked_for_as_a_user_of_it_alone(
    several: Retrieval, state: SessionState
) -> None:
    """Each query is the user tower's of a history in which only that cluster was liked."""
    model, catalogue = several.model, several.catalogue
    history = history_vectors(model, catalogue, state)
    member = interests(model, history, liked_events(state, history.shape[1]), 2)
    got = several.queries(state)
    assert got.shape == (300, 3, 8)
    for c in range(2):
        alone = state.clone()
        alone.history_feedback[..., 0] = member[:, c]
        expected = user_vectors(model, catalogue, alone)
        expected = torch.where(member[:, c].any(1)[:, None], expected, got[:, 0])
        torch.testing.assert_close(got[:, 1 + c], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(got[:, 0], user_vectors(model, catalogue, state))
    assert member.any(2).all(1).any(), "some users have two interests"


def test_interests_come_by_recency(several: Retrieval) -> None:
    """Three liked events of one kind lie far back, one of another kind is the latest."""
    vectors = torch.zeros(1, 10, 8)
    vectors[:, :3, 0], vectors[:, 9, 1] = 1.0, 1.0
    liked = torch.zeros(1, 10, dtype=torch.bool)
    liked[:, :3], liked[:, 9] = True, True
    member = interests(several.model, vectors, liked, 2)
    assert member[0].nonzero().tolist() == [[0, 9], [1, 0], [1, 1], [1, 2]]
    liked[:, 3], vectors[:, 3, 0] = True, 1.0  # a fourth far one outweighs the latest
    member = interests(several.model, vectors, liked, 2)
    assert member[0].nonzero()[:, 1].tolist() == [0, 1, 2, 3, 9]


def test_what_is_found_holds_no_item_twice(several: Retrieval, state: SessionState) -> None:
    found = several.nearest(state, 40)
    assert found.shape == (300, 40)
    assert (found >= 0).all()
    assert all(len(row.unique()) == 40 for row in found)
    assert torch.equal(found, several.nearest(state, 40))
    one = Retrieval(several.model, several.index, several.catalogue)
    assert torch.equal(found[:, 0], one.nearest(state, 40)[:, 0])
    assert not torch.equal(found, one.nearest(state, 40))


def test_a_state_is_asked_for_alone_or_in_a_batch(several: Retrieval, state: SessionState) -> None:
    whole = several.queries(state)
    for row in (0, 7, 200):
        torch.testing.assert_close(several.queries(state[row : row + 1])[0], whole[row])


def test_a_live_index_is_searched_the_same(
    several: Retrieval, state: SessionState, tmp_path: Path
) -> None:
    live = create_live_index(tmp_path / "live", several.index)  # type: ignore[arg-type]
    over = Retrieval(several.model, live, several.catalogue, num_queries=3)
    assert torch.equal(over.nearest(state, 20), several.nearest(state, 20))


def test_the_number_of_queries_is_kept(
    several: Retrieval, state: SessionState, tmp_path: Path
) -> None:
    several.save(tmp_path / "index", Manifest(kind="index"))
    loaded = load_retrieval(tmp_path / "index", several.catalogue)
    assert loaded.num_queries == 3
    assert torch.equal(loaded.nearest(state, 20), several.nearest(state, 20))


def test_a_short_history_gives_fewer_queries(make_dataset: Callable[..., SessionDataset]) -> None:
    dataset = make_dataset(40, 60)
    config = RetrievalConfig(dim=4, history_length=2, num_epochs=0, num_queries=6)
    few = index_items(fit_towers(dataset, config), dataset.catalogue, config)
    state = dataset.state(dataset.rows()[:9])
    assert few.queries(state).shape == (9, 3, 4)
    assert few.nearest(state, 60).sort(1).values.tolist() == [list(range(60))] * 9
