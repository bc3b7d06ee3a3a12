"""What a ranker promises regardless of what it has learned: shapes, purity, independence.

Each check raises a SchemaError that names the broken promise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recomind.checks.asking import answer, ask, encode, require_same, train_mode_hint
from recomind.checks.probes import (
    Probe,
    at_step_0,
    joined,
    latest_events,
    padded,
    state_fields,
    state_from,
    without_history,
)
from recomind.errors import SchemaError, require
from recomind.findings import Finding, Level, finding
from recomind.types import Ranker

_NEEDED = ("tasks", "encode_state", "score")
_MANY = 257  # candidates; more than any chunk that is tried by hand


def check_names(ranker: Ranker) -> None:
    """It has the Protocol's parts, and tasks that can be told apart."""
    missing = [name for name in _NEEDED if not hasattr(ranker, name)]
    require(not missing, "not a ranker, it lacks", missing, mend="see recomind.types.Ranker")
    tasks = ranker.tasks
    require(
        isinstance(tasks, tuple) and all(isinstance(task, str) and task for task in tasks),
        "tasks must be a tuple of names",
        repr(tasks),
        "such as ('watch_10s', 'hide')",
    )
    require(len(tasks) > 0, "a ranker without tasks", tasks, "at least one name")
    require(len(set(tasks)) == len(tasks), "tasks of the same name", tasks, "distinct names")


def check_answers(ranker: Ranker, probe: Probe) -> None:
    """Shapes, type, finite, no graph; all other checks build on this one."""
    ask(ranker, probe.state, probe.item_id)


def check_snapshots(ranker: Ranker, probe: Probe) -> None:
    """Dated content is taken as [B, 1] and as [B, K], with the same result."""
    zero_B, where = torch.zeros_like(probe.state.step), "with snapshots, as training calls it"
    encoding = encode(ranker, probe.state, where, zero_B)
    one = answer(ranker, encoding, probe.item_id, where, zero_B[:, None])
    each = answer(ranker, encoding, probe.item_id, where, torch.zeros_like(probe.item_id))
    what = "snapshots [B, 1] and [B, K] of the same value give other scores"
    require_same(ranker, one, each, what, "let `snapshot` broadcast against `item_id`")


def check_deterministic(ranker: Ranker, probe: Probe) -> None:
    """Two calls are equal; all comparisons build on this one."""
    first, second = (ask(ranker, p.state, p.item_id) for p in (probe.copy(), probe.copy()))
    require(
        torch.equal(first, second),
        "two calls with the same input give other scores",
        f"logits that differ by up to {float((first - second).abs().max()):.2g}",
        "equal logits",
        mend="no dropout, sampling or noise in scoring" + train_mode_hint(ranker),
    )


def check_generator(ranker: Ranker, probe: Probe) -> None:
    """Torch's generator is left alone."""
    before = torch.get_rng_state()
    ask(ranker, probe.state, probe.item_id)
    untouched = torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(before)
    require(
        untouched,
        "scoring draws from torch's global generator",
        mend="draw nothing: other people's random numbers would change" + train_mode_hint(ranker),
    )


def check_inputs_unchanged(ranker: Ranker, probe: Probe) -> None:
    """Neither the state, nor the candidates, nor the encoding are written to."""
    given = probe.copy()
    encoding = encode(ranker, given.state)
    first = answer(ranker, encoding, given.item_id)
    before, after = state_fields(probe.state), state_fields(given.state)
    changed = [name for name, value in before.items() if not _equal(value, after[name])]
    if not torch.equal(given.item_id, probe.item_id):
        changed.append("item_id")
    require(
        not changed,
        "scoring changes what it is given",
        changed,
        mend="work on a copy: the same state goes to other rankers and into replay",
    )
    answer(ranker, encoding, probe.item_id.flip(1))
    again = answer(ranker, encoding, probe.item_id)
    what = "score() changes the encoding: the same candidates score otherwise the next time"
    require_same(ranker, first, again, what, "one encoding is scored many times")


def _equal(ours: Tensor, theirs: Tensor) -> bool:
    if ours.is_floating_point():
        ours, theirs = ours.nan_to_num(), theirs.nan_to_num()
    return ours.shape == theirs.shape and torch.equal(ours, theirs)


def check_batch(ranker: Ranker, probe: Probe) -> None:
    """A state scores alone, and in a part of the batch, as it does in the batch."""
    whole = ask(ranker, probe.state, probe.item_id)
    num = len(whole)
    for part in (slice(1, 1 + (num + 1) // 2), slice(0, 1), slice(num - 1, num)):
        where = f"on a batch of {len(whole[part])}"
        alone = ask(ranker, probe.state[part], probe.item_id[part], where)
        require_same(
            ranker,
            whole[part],
            alone,
            "a state's scores depend on the others of its batch",
            "nothing may be normalised, padded or sorted over the batch",
        )


def check_candidates(ranker: Ranker, probe: Probe) -> None:
    """A candidate's score depends neither on its place in the list nor on the rest of it."""
    whole = ask(ranker, probe.state, probe.item_id)
    num = probe.item_id.shape[1]
    back = ask(ranker, probe.state, probe.item_id.flip(1)).flip(1)
    what = "a candidate's score depends on its place in the list"
    require_same(ranker, whole, back, what, "score each candidate by itself")
    for part in (slice(0, (num + 1) // 2), slice(0, 1), slice(num - 1, num)):
        where = f"on {len(range(num)[part])} of {num} candidates"
        few = ask(ranker, probe.state, probe.item_id[:, part], where)
        require_same(
            ranker,
            whole[:, part],
            few,
            "a candidate's score depends on the others of its list",
            "no softmax or normalisation over candidates: return logits",
        )
    many = probe.item_id.repeat(1, _MANY // num + 1)[:2, :_MANY]
    more = ask(ranker, probe.state[:2], many, f"on {_MANY} candidates")
    what = f"a candidate's score depends on the number of candidates ({num} or {_MANY})"
    require_same(ranker, whole[:2], more[:, :num], what, "look at how candidates are chunked")


def check_unseen(ranker: Ranker, probe: Probe) -> Finding | None:
    """Items that no training row shows are scored, in a history too, and not all alike."""
    if len(probe.unseen) == 0:
        return None
    item_id = probe.unseen.expand(len(probe.state.step), -1)
    logits = ask(ranker, probe.state, item_id, "on items that training never saw")
    fields = state_fields(probe.state)
    history = torch.full_like(fields["history_item_id"], int(probe.unseen[0]))
    state = state_from(fields | {"history_item_id": history * fields["history_mask"]})
    known = ask(ranker, state, probe.item_id, "on a history of items that training never saw")
    if item_id.shape[1] < 2 or bool(_spread(logits) > 0) or not bool(_spread(known) > 0):
        return None
    return finding(
        Level.warning,
        "items that training never saw all score the same",
        f"one score a state for {item_id.shape[1]} items",
        "scores that follow an item's content",
        mend="let the model read the items' content (`RowBatch.items`) beside their ids",
    )


def _spread(logits: Tensor) -> Tensor:
    """The largest difference between two candidates' logits [B, K, H] of one state and task."""
    return (logits.amax(1) - logits.amin(1)).max()


def check_empty_history(ranker: Ranker, probe: Probe) -> None:
    """A user of whom nothing is known is scored, alone and beside others."""
    ask(ranker, without_history(probe.state), probe.item_id, "on an empty history")
    mixed = joined(without_history(probe.state[:1]), probe.state[1:])
    beside = ask(ranker, mixed, probe.item_id, "on a batch with one empty history")
    whole = ask(ranker, probe.state, probe.item_id)
    what = "a state's scores depend on the others of its batch, where one has no history"
    require_same(ranker, whole[1:], beside[1:], what, "mask the padding of each state by itself")


def check_step_0(ranker: Ranker, probe: Probe) -> None:
    """The first decision of a session, with earlier days behind it."""
    ask(ranker, at_step_0(probe.state), probe.item_id, "at step 0")


def check_padding(ranker: Ranker, probe: Probe) -> Finding | None:
    """More padding on the left changes nothing, where a shorter history is taken at all."""
    length = probe.state.history_mask.shape[1]
    short = latest_events(probe.state, (length + 1) // 2)
    long = padded(short, length // 2)
    ours = ask(ranker, long, probe.item_id, "on a history that is half padding")
    try:
        theirs = ask(ranker, short, probe.item_id)
    except SchemaError as error:
        what = f"takes no history shorter than {length}, so padding was not varied"
        return finding(Level.note, what, error.got)
    what = "padding on the left of a history changes the scores"
    require_same(ranker, theirs, ours, what, "mask it, and divide by no length of the tensor")
    return None


CHECKS: tuple[Callable[[Ranker, Probe], Finding | None], ...] = (
    check_inputs_unchanged,
    check_generator,
    check_snapshots,
    check_batch,
    check_candidates,
    check_unseen,
    check_step_0,
    check_empty_history,
    check_padding,
)
