"""What a round's policy is distilled from: its logged states, and its own pools for them."""

from __future__ import annotations

import torch

from recomind.data import SessionDataset
from recomind.export import PolicyScorer
from recomind.export.distilling import Lessons
from recomind.export.golden import Golden, answer
from recomind.pipeline.loading import load_ensemble, load_pool
from recomind.pipeline.run import Round
from recomind.policy import QNetwork
from recomind.streams import SessionStreams, draw_rows, draw_seeds, make_generator
from recomind.types import CandidateSource

_HELD_OUT = 1000  # states at most


def make_lessons(round: Round, network: QNetwork) -> Lessons:
    """Answers of `network`, the round's policy, on states of the training days and of later ones.

    A log without test days is judged on its calibration days, one without either on itself.
    """
    settings, seed = round.config.export, round.seed("distil-ranker")
    dataset, pool = round.dataset(), load_pool(round, round.run.policy_index)
    scorer, generator = PolicyScorer(network), make_generator(seed)

    def drawn(split: str, num: int) -> Golden:
        return _answers(scorer, dataset, split, num, pool, generator)

    splits = (s for s in ("test", "calibration", "train") if len(dataset.rows(s)))
    return Lessons(
        rankers=load_ensemble(round),
        train=drawn("train", settings.distil_states),
        held_out=drawn(next(splits), _HELD_OUT),
        num_epochs=settings.distil_epochs,
        seed=seed,
    )


def _answers(
    scorer: PolicyScorer,
    dataset: SessionDataset,
    split: str,
    num: int,
    pool: CandidateSource,
    generator: torch.Generator,
) -> Golden:
    state = dataset.state(draw_rows(dataset.rows(split), num, generator))
    streams = SessionStreams(draw_seeds(len(state.step), generator))
    candidates = pool.candidates(state, streams)
    return answer(scorer, state, candidates.item_id, candidates.mask)
