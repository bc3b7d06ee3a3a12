"""Q of sessions that go on: nothing is computed twice from one step to the next.

Symbols: `B` sessions, `K` candidates.

Encoded events are cached while the weights stay (`recomind.incremental`), those of the frozen
ranker also while the trunk learns; the trunk's item tower is computed once under its weights,
where that pays. The numbers are those of `QNetwork.q_values` except for rounding. With bfloat16 or
compilation the first scores are compared with the network's own, and where they differ by more
than the config allows, scoring goes back to float32. Ours.
"""

from __future__ import annotations

import logging
from dataclasses import fields

import torch
from torch import Tensor

from recomind.incremental import FastJoint, RunningEncodings, TrunkItems
from recomind.policy.config import Precision
from recomind.policy.density import LoggedDensity
from recomind.policy.network import QEncoding, QNetwork
from recomind.policy.parity import NUM_COMPARED, ScoreParity, score_parity
from recomind.ranker import StateEncoding, two_tower_part, utility
from recomind.types import SessionState

_DTYPES = {Precision.float32: torch.float32, Precision.bfloat16: torch.bfloat16}
_log = logging.getLogger(__name__)


class RunningQ:
    """Acts for one network; encodings of its sessions are kept between calls.

    Attributes:
        parity: how far the fast way is from the network, once it was compared.
        is_fast: whether bfloat16 or compilation, where asked for, is in use.
    """

    def __init__(self, network: QNetwork) -> None:
        self.network, self.config = network, network.config
        self._encodings = RunningEncodings([network.frozen, network.trunk])
        self._items = TrunkItems(network.trunk)
        self._towers = two_tower_part(network.frozen)
        self.parity: ScoreParity | None = None
        self.is_fast = self.config.compile or self.config.precision is not Precision.float32
        self._joints = self._fast_joints() if self.is_fast else None

    def _fast_joints(self) -> tuple[FastJoint | None, FastJoint]:
        dtype, compiled = _DTYPES[self.config.precision], self.config.compile
        trunk = FastJoint(self.network.trunk, dtype, compiled=compiled)
        if self._towers is None:
            return None, trunk
        return FastJoint(self._towers, dtype, compiled=compiled), trunk

    def clear_cache(self) -> None:
        """Encode the next states from scratch, so that what follows depends on them alone."""
        self._encodings.clear_cache()
        self._items.clear_cache()

    @torch.no_grad()
    def q_values(self, state: SessionState, item_id: Tensor) -> tuple[Tensor, Tensor]:
        """Q [B, K] and the ranker's utility [B, K] of `item_id` [B, K]."""
        return self.score_encoded(self.encode_state(state), item_id)

    @torch.no_grad()
    def encode_state(self, state: SessionState) -> QEncoding:
        """Everything of `state` [B] that scoring needs; good until the next."""
        frozen, trunk = self._encodings.encode_state(state)
        logging_BM = self.network.logging_state(state, frozen)
        return QEncoding(frozen=frozen, trunk=trunk, logging_BM=logging_BM)

    @property
    def density(self) -> LoggedDensity | None:
        """The network's density of the logs."""
        return self.network.density

    def log_density(self, encoding: QEncoding, item_id: Tensor) -> Tensor | None:
        """The network's density of the logs."""
        return self.network.log_density(encoding, item_id)

    @torch.no_grad()
    def score_encoded(self, encoding: QEncoding, item_id: Tensor) -> tuple[Tensor, Tensor]:
        """As `q_values`, of states that are encoded already."""
        if self.is_fast and self.parity is None:
            self._compare(encoding, item_id)
        size = self.config.chunk_candidates
        if size == 0 or item_id.numel() <= size:
            return self._scored(encoding, item_id)
        return self._in_chunks(encoding, item_id, size)

    def _in_chunks(self, encoding: QEncoding, item_id: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """At most `size` candidates at once: a few states, or of one state a few candidates."""
        rows, width = max(1, size // item_id.shape[1]), min(size, item_id.shape[1])
        if self._towers is None:  # an encoding that only its ranker can cut
            rows, width = len(item_id), max(1, size // len(item_id))
        q_BK, utility_BK = torch.empty(item_id.shape), torch.empty(item_id.shape)
        for first in range(0, len(item_id), rows):
            at = slice(first, first + rows)
            part = encoding if rows == len(item_id) else _rows(encoding, at)
            for begin in range(0, item_id.shape[1], width):
                place = (at, slice(begin, begin + width))
                q_BK[place], utility_BK[place] = self._scored(part, item_id[place])
        return q_BK, utility_BK

    def _scored(self, encoding: QEncoding, item_id: Tensor) -> tuple[Tensor, Tensor]:
        network, towers, known = self.network, self._towers, None
        fast_frozen, fast_trunk = self._joints or (None, None)
        if towers is not None:
            known = towers.encode_items(item_id)
            joint = (fast_frozen or towers.joint)(encoding.frozen, known)
            logits_BKH = towers.logits(joint, encoding.frozen, known)
        else:
            logits_BKH = network.frozen.score(encoding.frozen, item_id)
        utility_BK = utility(logits_BKH, network.weights_H)
        items = self._items.take(item_id, known if self._same_vectors() else None)
        joint = (fast_trunk or network.trunk.joint)(encoding.trunk, items)
        return network.q_of(joint, utility_BK, encoding.trunk, item_id), utility_BK

    def _same_vectors(self) -> bool:
        """Whether frozen ranker and trunk take item vectors from one table."""
        table = self.network.trunk.table
        return self._towers is not None and table is not None and self._towers.table is table

    def _compare(self, encoding: QEncoding, item_id: Tensor) -> None:
        """Compare the fast way with the network on some states; give it up where it fails."""
        if self._towers is not None:
            encoding, item_id = _rows(encoding, slice(NUM_COMPARED)), item_id[:NUM_COMPARED]
        plain = self.network.score_encoded(encoding, item_id)
        try:
            self.parity = score_parity(self._scored(encoding, item_id), plain)
            largest = self.parity.max_abs_difference
            if largest <= self.config.score_tolerance:
                return
            why = f"a score differs by {largest:.3g}, > {self.config.score_tolerance}"
        except Exception as error:  # whatever a compiler raises
            self.parity = score_parity(plain, plain)
            why = f"{type(error).__name__}: {error}".splitlines()[0]
        self._joints, self.is_fast = None, False
        _log.warning(
            "scoring in float32, uncompiled: policy.precision=%s policy.compile=%s fails: %s",
            self.config.precision.value,
            self.config.compile,
            why,
        )


def _rows(encoding: QEncoding, rows: slice) -> QEncoding:
    """The encodings of some of the states, where both can be cut."""
    return QEncoding(frozen=_sliced(encoding.frozen, rows), trunk=_sliced(encoding.trunk, rows))


def _sliced(encoding: StateEncoding, rows: slice) -> StateEncoding:
    return StateEncoding(*(getattr(encoding, field.name)[rows] for field in fields(encoding)))
