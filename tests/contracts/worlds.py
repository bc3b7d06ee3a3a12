"""Worlds that each break one promise, and what the checker says of them."""

from __future__ import annotations

import torch

from simulators.video_feed.world import VideoFeed


class InPlace(VideoFeed):
    """Writes the next state into the one it returned before."""

    def step(self, item_id):
        before = self._state
        step = super().step(item_id)
        before.history_item_id.copy_(step.state.history_item_id)
        return step


class Crowded(VideoFeed):
    """What a user does depends on the next row of the batch."""

    def _respond(self, state, hidden, item_id, streams):
        response, hidden = super()._respond(state, hidden, item_id.roll(1), streams)
        return response, hidden


class Unrepeatable(VideoFeed):
    """Draws from torch's global generator."""

    def _respond(self, state, hidden, item_id, streams):
        response, hidden = super()._respond(state, hidden, item_id, streams)
        response.dwell_s = response.dwell_s + torch.rand(len(item_id))
        return response, hidden


class NanReward(VideoFeed):
    """Divides by what may be zero."""

    def step(self, item_id):
        step = super().step(item_id)
        step.reward = step.reward / (step.reward > 0).float()
        return step


class EndsTwice(VideoFeed):
    """Users who left are cut by the horizon as well."""

    def step(self, item_id):
        step = super().step(item_id)
        step.truncated = step.truncated | step.terminated
        return step


class NeverEnds(VideoFeed):
    """Its horizon is said, not kept."""

    def step(self, item_id):
        step = super().step(item_id)
        step.truncated = torch.zeros_like(step.truncated)
        return step


class NoSteps(VideoFeed):
    """Some users had left before they came."""

    def reset(self, num_sessions, generator, *, auto_reset=False):
        state = super().reset(num_sessions, generator, auto_reset=auto_reset)
        self._ended = torch.arange(num_sessions) % 4 == 0
        return state


class WrongType(VideoFeed):
    """Feedback as numbers."""

    def _respond(self, state, hidden, item_id, streams):
        response, hidden = super()._respond(state, hidden, item_id, streams)
        response.feedback = response.feedback.float()
        return response, hidden


class NoHistory(VideoFeed):
    """Counts steps and remembers none."""

    def step(self, item_id):
        before = self._state
        step = super().step(item_id)
        state = before.clone()
        state.step, state.gap_s = step.state.step, step.state.gap_s
        self._state = step.state = state
        return step


class OtherReward(VideoFeed):
    """Pays for likes, whatever the weights say."""

    def step(self, item_id):
        step = super().step(item_id)
        step.reward = step.response.feedback[:, 2].float() + step.response.feedback[:, 1]
        return step


class Leaky(VideoFeed):
    """Shows how patient the user still is, in other units."""

    def _begin(self, streams):
        state, hidden = super()._begin(streams)
        state.user_features = self._leak(state.user_features, hidden)
        return state, hidden

    def _features_now(self, state, hidden):
        return self._leak(state.user_features, hidden)

    def _leak(self, features, hidden):
        return torch.cat([features[:, :-1], 3.0 - 0.5 * hidden["patience"][:, None]], dim=1)


class Forgetful(VideoFeed):
    """Keeps what a session remembers beside what is stored."""

    num_steps = 0

    def _begin(self, streams):
        if len(streams.seeds) > 1:
            self.num_steps = 0
        return super()._begin(streams)

    def _respond(self, state, hidden, item_id, streams):
        response, hidden = super()._respond(state, hidden, item_id, streams)
        self.num_steps += 1
        response.dwell_s = response.dwell_s + self.num_steps
        return response, hidden


class Nameless(VideoFeed):
    """Names fewer features than its users have."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.user_feature_names = self.user_feature_names[:-1]


class Chooser:
    """Chooses item 0, offered or not."""

    def __init__(self, policy):
        self.policy = policy

    def act(self, state, candidates, uniforms):
        decision = self.policy.act(state, candidates, uniforms)
        decision.item_id = torch.zeros_like(decision.item_id)
        return decision


class Stubborn(VideoFeed):
    """Its logging policy does not keep to the candidates."""

    def logging_policy(self):
        return Chooser(super().logging_policy())


BROKEN = {
    InPlace: "step() changed state.history_item_id of a state it had returned earlier",
    Crowded: "a session depends on the others of its batch",
    Unrepeatable: "the same generator gives different sessions: dwell_s differs at step 0",
    NanReward: "reward is not finite; got: [",
    EndsTwice: "terminated and truncated at once",
    NeverEnds: "truncated must be True where the horizon cut a session",
    NoSteps: "a session without steps: it had ended before its first",
    WrongType: "response.feedback has the wrong type; got: torch.float32; expected: torch.bool",
    NoHistory: "state.history_item_id is not the earlier history followed by the latest event",
    OtherReward: "reward is not the weighted sum of the feedback",
    Leaky: "the hidden patience[0] shows in the user features",
    Forgetful: "set_state(get_state()) does not continue as the sessions did",
    Nameless: "user_feature_names must name each user feature once",
    Stubborn: "the logging policy chose an item that was not a candidate",
}
