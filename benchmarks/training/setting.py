"""What is trained on what: 10,000 items, a feed of known rates, a network of 1.4 M parameters.

Symbols: `B` sessions, `N` items, `L` history events, `K` candidates, `H` tasks, `D` width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.data import TableCatalogue
from recomind.policy import PolicyConfig, QNetwork
from recomind.ranker import RankerConfig, SessionRanker
from recomind.simulation import BatchedSessions, Hidden
from recomind.streams import LANE_BEGIN, LANE_WORLD, SessionStreams, make_generator
from recomind.training.config import TrainingConfig
from recomind.training.problem import SessionProblem
from recomind.types import Response, SessionState

NUM_ITEMS, LENGTH, NUM_CANDIDATES, BATCH_SIZE = 10_000, 50, 100, 256
NUM_USER_FEATURES, NUM_DENSE, VOCAB_SIZES = 16, 8, (500, 60)
TASKS, REWARD_WEIGHTS = ("watch_10s", "like", "hide"), {"watch_10s": 1.0}
HORIZON, LEAVE_RATE = 40, 0.05
RATES_H = (0.4, 0.05, 0.02)  # mean rates of feedback; each item has its own
STEPS_PER_ITERATION, NUM_SESSIONS, ROLLOUT_LENGTH = 1_024, 256, 4
SEED = 0


def feedback_rates() -> Tensor:
    """[N, H] how often an item earns each feedback."""
    uniform_NH = torch.rand(NUM_ITEMS, len(TASKS), generator=make_generator(SEED))
    return 2.0 * uniform_NH * torch.tensor(RATES_H)


class Feed(BatchedSessions):
    """Items of known rates, shown to users with full histories; nearly free to simulate."""

    def __init__(self) -> None:
        super().__init__(
            catalogue=catalogue(),
            tasks=TASKS,
            reward_weights=REWARD_WEIGHTS,
            horizon=HORIZON,
            history_length=LENGTH,
        )
        self._rates_NH = feedback_rates()

    def _begin(self, streams: SessionStreams) -> tuple[SessionState, Hidden]:
        num, num_tasks = len(streams.seeds), len(TASKS)
        zero = torch.zeros(num, dtype=torch.int64)
        draws = streams.uniform(zero, NUM_USER_FEATURES + LENGTH, LANE_BEGIN)
        state = SessionState(
            user_id=streams.seeds % 1_000_000,
            user_features=draws[:, :NUM_USER_FEATURES].contiguous(),
            history_item_id=(draws[:, NUM_USER_FEATURES:] * NUM_ITEMS).long(),
            history_feedback=torch.zeros(num, LENGTH, num_tasks, dtype=torch.bool),
            history_dwell_s=torch.full((num, LENGTH), 5.0),
            history_gap_s=torch.full((num, LENGTH), 5.0),
            history_mask=torch.ones(num, LENGTH, dtype=torch.bool),
            gap_s=torch.full((num,), 5.0),
            step=zero,
            batch_size=[num],
        )
        return state, {}

    def _respond(
        self, state: SessionState, hidden: Hidden, item_id: Tensor, streams: SessionStreams
    ) -> tuple[Response, Hidden]:
        num_tasks = len(TASKS)
        draws = streams.uniform(state.step, num_tasks + 2, LANE_WORLD)
        response = Response(
            feedback=draws[:, :num_tasks] < self._rates_NH[item_id],
            dwell_s=20.0 * draws[:, num_tasks],
            left=draws[:, num_tasks + 1] < LEAVE_RATE,
            batch_size=[len(item_id)],
        )
        return response, hidden


def catalogue() -> TableCatalogue:
    """Random content."""
    generator = make_generator(SEED + 1)
    codes = [torch.randint(size, (NUM_ITEMS,), generator=generator) for size in VOCAB_SIZES]
    return TableCatalogue(
        torch.randn(1, NUM_ITEMS, NUM_DENSE, generator=generator),
        torch.stack(codes, dim=1),
        dense_names=[f"number_{index}" for index in range(NUM_DENSE)],
        categorical_names=("author", "tag"),
        vocab_sizes=VOCAB_SIZES,
    )


def candidates() -> CandidatePool:
    """Random items: what an index costs is not the question here."""
    config = CandidatesConfig(
        num_candidates=NUM_CANDIDATES, num_nearest=0, num_fresh=0, exclude_recent=0
    )
    return CandidatePool(config, NUM_ITEMS)


def network() -> QNetwork:
    """The project's own network in its default architecture: frozen ranker and residual."""
    return _network(hidden=232, num_layers=0)


def transformer() -> QNetwork:
    """As large, with a causal transformer of two layers over the history."""
    return _network(hidden=216, num_layers=2)


def _network(*, hidden: int, num_layers: int) -> QNetwork:
    config = RankerConfig(
        history_length=LENGTH,
        recent_length=LENGTH,
        dim=64,
        hidden=hidden,
        num_layers=num_layers,
        num_heads=4,
        id_buckets=1024,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        ranker = SessionRanker(catalogue(), TASKS, NUM_USER_FEATURES, config).precompute_items()
        return QNetwork(ranker, REWARD_WEIGHTS, PolicyConfig())


class DotProduct(nn.Module):
    """Mean of the history's vectors, one matrix, a dot product: the framework is what costs."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        generator = make_generator(SEED + 2)
        vectors_ND = torch.randn(NUM_ITEMS, dim, generator=generator)
        self.items = nn.Embedding.from_pretrained(vectors_ND, freeze=True)
        self.user = nn.Linear(dim, dim)
        with torch.no_grad():
            for parameter in self.user.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)

    def q_values(self, state: SessionState, item_id: Tensor) -> tuple[Tensor, Tensor]:
        """Q [B, K] and a utility [B, K] of `item_id` [B, K]."""
        item_BKD = self.items(item_id)
        user_BD = self.items(state.history_item_id).mean(1)
        utility_BK = (item_BKD @ user_BD[:, :, None])[..., 0].sigmoid()
        return utility_BK + (item_BKD @ self.user(user_BD)[:, :, None])[..., 0], utility_BK


REAL = SessionProblem(environment=Feed, candidates=candidates, network=network)
TRANSFORMER = SessionProblem(environment=Feed, candidates=candidates, network=transformer)
CHEAP = SessionProblem(environment=Feed, candidates=candidates, network=DotProduct)


def settings() -> TrainingConfig:
    """The defaults, with one transition learnt for each that is simulated."""
    return TrainingConfig(
        batch_size=BATCH_SIZE,
        env_steps_per_update=BATCH_SIZE,
        num_sessions=NUM_SESSIONS,
        rollout_length=ROLLOUT_LENGTH,
        steps_per_iteration=STEPS_PER_ITERATION,
        num_env_steps=100_000_000,
        replay_capacity=50_000,
        learning_starts=1_024,
    )


def num_parameters(module: nn.Module) -> int:
    """All of them, frozen ones too."""
    return sum(parameter.numel() for parameter in module.parameters())
