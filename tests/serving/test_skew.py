"""Training and serving see the same: 10,000 logged decisions, scored in both places."""

from __future__ import annotations

import json

import numpy as np
import torch

from recomind.data import SessionDataset
from recomind.export import PolicyScorer
from recomind.policy import PolicyConfig, QNetwork
from recomind.ranker import RankerConfig, SessionRanker
from recomind.serving import RankingEngine, ServingConfig
from recomind.serving.app import Service, running
from recomind.serving.replica import LocalReplica
from tests.data.conftest import small_catalogue, small_events
from tests.data.test_dataset import TASKS, at_odd_times, in_memory
from tests.serving.processes import ask, free_port

LENGTH, NUM_ROWS, AT_ONCE = 5, 10_000, 64


def network() -> QNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = RankerConfig(dim=8, hidden=12, history_length=LENGTH)
        ranker = SessionRanker(small_catalogue(), TASKS, 2, config)
        network = QNetwork(ranker, {"click": 1.0, "hide": -0.5}, PolicyConfig(support_density=0.0))
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter += 0.2 * torch.randn_like(parameter)
    return network.eval()


def requests_of(events: list[dict]) -> list[dict]:
    """What a company that keeps its users' events would send before each logged decision."""
    items = list(range(small_catalogue().num_items))
    requests, timeline = [], []
    for event in events:
        if timeline and timeline[-1]["history_id"] != event["history_id"]:
            timeline = []
        if event["position"] >= 0:
            requests.append(
                {
                    "user_id": event["user_id"],
                    "user_features": {"rate": event["u_rate"], "age": event["u_age"]},
                    "step": event["position"],
                    "gap_s": since(timeline[-1], event) if timeline else 0.0,
                    "history": [entry(timeline, place) for place in range(len(timeline))],
                    "item_ids": items,
                }
            )
        timeline.append(event)
    return requests


def since(before: dict, event: dict) -> float:
    return (event["time_ms"] - before["time_ms"]) / 1000


def entry(timeline: list[dict], place: int) -> dict:
    event = timeline[place]
    return {
        "item_id": event["item_id"],
        "feedback": {task: bool(event[task]) for task in TASKS},
        "dwell_s": event["dwell_s"],
        "gap_s": since(timeline[place - 1], event) if place else 0.0,
    }


def trained_scores(network: QNetwork, dataset: SessionDataset) -> tuple[np.ndarray, np.ndarray]:
    rows = dataset.rows()
    scores = []
    for part in rows.split(1000):
        items = torch.arange(network.catalogue.num_items).expand(len(part), -1)
        with torch.no_grad():
            encoding = network.encode_state(dataset.state(part))
            scores.append(network.score_encoded(encoding, items)[0])
    return rows.numpy(), torch.cat(scores).numpy()


def test_ten_thousand_rows_are_scored_by_the_service_as_in_training():
    events = at_odd_times(small_events(num_timelines=2300), seed=0)
    dataset, trained = in_memory(events, LENGTH), network()
    rows, expected = trained_scores(trained, dataset)
    requests = requests_of(events.to_dicts())
    assert len(rows) == len(requests) >= NUM_ROWS
    engine = RankingEngine(PolicyScorer(trained, dataset.user_feature_names), ServingConfig())
    config = ServingConfig(port=free_port())
    served = np.empty_like(expected)
    with running(Service([LocalReplica(engine)], config)):
        for begin in range(0, len(requests), AT_ONCE):
            body = json.dumps(requests[begin : begin + AT_ONCE]).encode()
            status, _, answers = ask(config.port, "/rank", body)
            assert status == 200
            for row, answer in enumerate(answers, start=begin):
                served[row, answer["item_ids"]] = answer["scores"]
    assert np.ptp(expected) > 0.1  # the scores differ, so that a skew would be seen
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-5)
