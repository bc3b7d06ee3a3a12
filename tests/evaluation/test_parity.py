"""Step-0 parity."""

from __future__ import annotations

import pytest
import torch

from recomind.errors import SchemaError
from recomind.evaluation.parity import step0_parity
from recomind.streams import make_generator


def test_equal_scores_are_in_parity():
    score = torch.rand(5, 7, generator=make_generator(1))
    assert step0_parity(score, score.clone(), torch.ones(5, 7, dtype=torch.bool)) == {
        "max_rank_difference": 0,
        "max_score_difference": 0.0,
        "num_states": 5,
    }


def test_parity_measures_the_largest_move_and_ignores_padding():
    ranker = torch.tensor([[3.0, 2.0, 1.0, 9.0]])
    policy = torch.tensor([[0.5, 2.0, 1.0, -9.0]])
    mask = torch.tensor([[True, True, True, False]])
    found = step0_parity(ranker, policy, mask)
    assert found == {"max_rank_difference": 2, "max_score_difference": 2.5, "num_states": 1}


def test_padding_takes_no_rank():
    ranker, policy = torch.tensor([[3.0, 2.0, 9.0]]), torch.tensor([[3.0, 2.0, -9.0]])
    mask = torch.tensor([[True, True, False]])
    assert step0_parity(ranker, policy, mask)["max_rank_difference"] == 0


@pytest.mark.parametrize(
    ("score", "message"),
    [(torch.zeros(1, 3), "one \\[B, K\\]"), (torch.full((1, 2), torch.nan), "finite")],
)
def test_bad_scores(score, message):
    with pytest.raises(SchemaError, match=message):
        step0_parity(torch.zeros(1, 2), score, torch.ones(1, 2, dtype=torch.bool))
