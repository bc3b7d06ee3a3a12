"""What showing an item does to what follows, estimated item by item where no content tells.

The summary of a session adds up the dense features of what was shown (`summary`). Items that are
known by their id alone have none, and what drives users away could not be learned. Each item is
given some: its effect on leaving, and on every later response of the session.

    logit P(outcome after r) = the model without effects + sum_l w_rl e[item_l]

with `w` decaying over the session's events `l`. For small independent effects the estimate that
shrinks them as far as the log says (empirical Bayes: Efron and Morris, 1975) needs one pass:

    e_i = g_i / (I_i + phi / tau^2)
    g_i = sum_r w_ri (y_r - p_r)
    I_i = sum_r w_ri^2 p_r (1 - p_r)

The spread tau comes from products of the scores of disjoint folds of users, so that what one user's
events have in common is not taken for an effect; phi, at least 1, is what their squares have beyond
it, for each unit of information. Where the folds do not agree beyond chance the effects are 0. All
but the shrinkage is ours.

Symbols: `R` rows, `L` history length, `N` items, `K` folds of users, `D` decays, `E` effects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from recomind.artifacts import load_tensors, save_tensors
from recomind.data import SessionDataset, StoredCatalogue, TableCatalogue
from recomind.errors import ArtifactError
from recomind.simulation.summary import DECAY_STEPS
from recomind.streams import hash_int64
from recomind.types import Catalogue, ItemFeatures

EFFECTS = "item_effects.safetensors"
NUM_FOLDS = 5
_EVIDENCE = 3.0  # standard errors of the folds' agreement below which there is no effect
_SALT = 97
_CHUNK = 8192

Outputs = Callable[[SessionDataset, Tensor], Tensor]  # of a dataset and rows [R] -> [R, ...]


@dataclass(kw_only=True, slots=True)
class _Outcome:
    """Something that items may have an effect on, and what is expected without."""

    rows: Tensor  # [R]
    label_R: Tensor  # 0 or 1
    expected_R: Tensor  # probability
    after: bool  # whether the rows' own items count among those that have an effect


class EffectsCatalogue:
    """A catalogue whose dense features end with effects of items.

    Args:
        base: the catalogue.
        table_NE: effects, in logits.
        names: E names of what they are on.
        without_KNE: the same without each fold of users; needed where a model is fitted to the
            very rows that the effects are of.
    """

    def __init__(
        self,
        base: Catalogue,
        table_NE: Tensor,
        names: Sequence[str],
        without_KNE: Tensor | None = None,
    ) -> None:
        self.base, self.table_NE, self.without_KNE = base, table_NE, without_KNE
        self.effects = tuple(names)
        self.num_items, self.num_snapshots = base.num_items, getattr(base, "num_snapshots", 1)
        self.dense_names = (*base.dense_names, *(f"effect on {name}" for name in names))
        self.categorical_names, self.vocab_sizes = base.categorical_names, base.vocab_sizes

    def features(self, item_id: Tensor, snapshot: Tensor | None = None) -> ItemFeatures:
        """Content of `item_id` [...]; effects are the same in every snapshot."""
        found = self.base.features(item_id, snapshot)
        effect = torch.nn.functional.embedding(item_id, self.table_NE)
        return ItemFeatures(
            dense=torch.cat([found.dense, effect], dim=-1), categorical=found.categorical
        )

    def without(self, fold: int) -> EffectsCatalogue:
        """As estimated without the users of a fold."""
        if self.without_KNE is None:
            return self
        return EffectsCatalogue(self.base, self.without_KNE[fold], self.effects)

    def save(self, folder: Path) -> None:
        """Write the base, which must be one that an artifact can carry, and the effects."""
        cast(StoredCatalogue, self.base).save(folder)
        self.save_effects(folder)

    def save_effects(self, folder: Path) -> None:
        """Write `item_effects.safetensors`: a column an effect."""
        columns = {f"{i}:{name}": self.table_NE[:, i] for i, name in enumerate(self.effects)}
        save_tensors(Path(folder) / EFFECTS, {k: v.contiguous() for k, v in columns.items()})


def load_effects(folder: Path) -> tuple[list[str], Tensor] | None:
    """Names and effects [N, E] that `save_effects` left in `folder`; None where there are none."""
    path = Path(folder) / EFFECTS
    if not path.exists():
        return None
    columns = load_tensors(path)
    names = sorted(columns, key=lambda name: int(name.split(":")[0]))
    table_NE = torch.stack([columns[name] for name in names], dim=1)
    return [name.split(":", 1)[1] for name in names], table_NE


def with_saved_effects(folder: Path, base: Catalogue) -> Catalogue:
    """`base` with the effects that lie in `folder`, or as it is; items that came later have none.

    Raises:
        ArtifactError: effects of more items than there are.
    """
    found = load_effects(folder)
    if found is None:
        return base
    names, table_NE = found
    num_later = base.num_items - len(table_NE)
    if num_later < 0:
        raise ArtifactError(
            "item effects are of another catalogue",
            got=f"{len(table_NE)} items",
            expected=f"at most {base.num_items}",
            mend="run `recomind fit-simulator` again",
        )
    return EffectsCatalogue(base, torch.nn.functional.pad(table_NE, (0, 0, 0, num_later)), names)


def standardised_effects(folder: Path) -> Tensor | None:
    """[N, E]: the effects in `folder` that differ between items, scaled to a deviation of 1."""
    found = load_effects(folder)
    if found is None:
        return None
    table_NE = found[1][:, found[1].std(0) > 0]
    return table_NE / table_NE.std(0) if table_NE.shape[1] else None


def without_content(dataset: SessionDataset) -> SessionDataset:
    """The same events, of items that nothing is known of.

    Effects are estimated beside models that know no items, so that they are an item's whole
    effects, not what its content leaves of them: a policy is told no more than these.
    """
    num_items, num_snapshots = dataset.catalogue.num_items, dataset.catalogue.num_snapshots
    nothing = TableCatalogue(
        torch.zeros(num_snapshots, num_items, 0),
        torch.zeros(num_items, 0, dtype=torch.int64),
        dense_names=(),
        categorical_names=(),
        vocab_sizes=(),
    )
    return dataset.with_catalogue(nothing)


def out_of_fold(dataset: SessionDataset, rows: Tensor, of: Outputs) -> Tensor:
    """`of(dataset, rows)`, each row with effects that were estimated without its user.

    A model fitted to rows whose own outcomes stand in its inputs would trust them too much.
    """
    catalogue = dataset.catalogue
    if not isinstance(catalogue, EffectsCatalogue) or len(rows) == 0:
        return of(dataset, rows)
    fold_R = _fold_of(dataset, rows)
    parts, where = [], []
    for fold in range(NUM_FOLDS):
        mine = (fold_R == fold).nonzero()[:, 0]
        if len(mine):
            where.append(mine)
            parts.append(of(dataset.with_catalogue(catalogue.without(fold)), rows[mine]))
    return torch.cat(parts)[torch.cat(where).argsort()]


def with_effects(
    dataset: SessionDataset, rows: Tensor, response_RH: Tensor, leave_R: Tensor
) -> tuple[SessionDataset, dict[str, float]]:
    """The same events, of items that are also known by their effects.

    While they are estimated an item takes 240 bytes, afterwards 4 an outcome.

    Args:
        dataset: the log.
        rows: [R] of it.
        response_RH: the probability of each task that a model without effects gives the rows.
        leave_R: that of leaving after them, of a model that knows nothing of what was shown
            (`without_content`); without meaning where the outcome is not known.

    Returns:
        The dataset, and figures: `item_effect.<outcome>`, the standard deviation tau in logits, 0
        where none is seen; `item_effect_evidence.<outcome>` in standard errors.
    """
    known, label_RH = dataset.left_known(rows), dataset.labels(rows)
    outcomes = {
        "leave": _Outcome(
            rows=rows[known],
            label_R=dataset.left(rows[known]).float(),
            expected_R=leave_R[known],
            after=True,
        )
    }
    for h, task in enumerate(dataset.tasks):
        outcomes[task] = _Outcome(
            rows=rows, label_R=label_RH[:, h], expected_R=response_RH[:, h], after=False
        )
    found = {name: _effect(dataset, outcome) for name, outcome in outcomes.items()}
    catalogue = EffectsCatalogue(
        dataset.catalogue,
        torch.stack([one.table_N for one in found.values()], dim=-1),
        list(found),
        torch.stack([one.without_KN for one in found.values()], dim=-1),
    )
    metrics = {f"item_effect.{name}": one.spread for name, one in found.items()}
    metrics |= {f"item_effect_evidence.{name}": one.evidence for name, one in found.items()}
    return dataset.with_catalogue(catalogue), metrics


@dataclass(slots=True)
class _Effect:
    table_N: Tensor
    without_KN: Tensor
    spread: float
    evidence: float


def _effect(dataset: SessionDataset, outcome: _Outcome) -> _Effect:
    """The effects under the decay for which the folds agree most."""
    score_DKN, information_DKN = _scores(dataset, outcome)
    found = [_shrunken(g, i) for g, i in zip(score_DKN, information_DKN, strict=True)]
    return max(found, key=lambda one: one.evidence)


def _scores(dataset: SessionDataset, outcome: _Outcome) -> tuple[Tensor, Tensor]:
    """Scores and information [D, K, N] float64."""
    num, length = dataset.catalogue.num_items, dataset.history_length
    age_L = torch.arange(length - 1, -1, -1, dtype=torch.float64)
    sums = torch.zeros(2, len(DECAY_STEPS), NUM_FOLDS * num, dtype=torch.float64)
    take = dataset.next_state if outcome.after else dataset.state
    for at in torch.arange(len(outcome.rows)).split(_CHUNK):
        rows, expected_R = outcome.rows[at], outcome.expected_R[at].double()
        state = take(rows)
        place_RL = _fold_of(dataset, rows)[:, None] * num + state.history_item_id
        inside_RL = state.in_session
        residual_R, variance_R = outcome.label_R[at] - expected_R, expected_R * (1 - expected_R)
        for d, steps in enumerate(DECAY_STEPS):
            weight_L = torch.exp(-age_L / steps)
            score_RL = residual_R[:, None] * weight_L
            information_RL = variance_R[:, None] * weight_L**2
            for total, part_RL in zip(sums[:, d], (score_RL, information_RL), strict=True):
                total.index_add_(0, place_RL[inside_RL], part_RL[inside_RL])
    score_DKN, information_DKN = sums.view(2, len(DECAY_STEPS), NUM_FOLDS, num)
    return score_DKN, information_DKN


def _shrunken(score_KN: Tensor, information_KN: Tensor) -> _Effect:
    """Effects of all folds together, and without each."""
    total_N, of_total_N = score_KN.sum(0), information_KN.sum(0)
    # Sums over pairs of different folds, which have nothing but the effect in common.
    agreement = (total_N**2 - (score_KN**2).sum(0)).sum()
    weight = (of_total_N**2 - (information_KN**2).sum(0)).sum()
    square_KN = score_KN**2
    error = (2 * (square_KN.sum(0) ** 2 - (square_KN**2).sum(0)).sum()).sqrt()
    evidence = float(agreement / error) if error > 0 else 0.0
    tau_2 = float(agreement / weight) if evidence >= _EVIDENCE else 0.0
    if tau_2 == 0.0:
        return _Effect(total_N.float() * 0, score_KN.float() * 0, 0.0, evidence)
    noise = (square_KN - tau_2 * information_KN**2).sum() / information_KN.sum()
    ridge = max(1.0, float(noise)) / tau_2
    without_KN = (total_N - score_KN) / (of_total_N - information_KN + ridge)
    table_N = total_N / (of_total_N + ridge)
    return _Effect(table_N.float(), without_KN.float(), tau_2**0.5, evidence)


def _fold_of(dataset: SessionDataset, rows: Tensor) -> Tensor:
    """[R] int64: the fold of each row's user."""
    return hash_int64(dataset.user_id(rows), _SALT) % NUM_FOLDS
