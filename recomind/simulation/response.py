"""The response model: fatigue factor x ranker probability; and the model of leaving.

    p_h(s, a) = factor_h(s) * sigmoid(match_h(s, a)),   factor_h in (0, 1)

The match is any `Ranker`'s calibrated logit. The fatigue factor depends on the state alone: without
it the model goes on promising responses to users who have tired of everything. Tasks are drawn
jointly, from one uniform for each group, so that combinations that cannot happen do not. All ours.

Symbols: `B` sessions, `H` tasks, `Q` dwell quantiles, `M` summary features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import IntEnum
from typing import cast

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset
from recomind.data.exploring import unconfounded_rows
from recomind.fitting import Fit, Standardising, fit_network
from recomind.ranker import Calibration, predict
from recomind.ranker.calibration import platt
from recomind.simulation.config import SimulatorConfig
from recomind.simulation.effects import out_of_fold, with_effects, without_content
from recomind.simulation.recency import recency_weights
from recomind.simulation.summary import SessionSummary
from recomind.types import Ranker

LEAST_PROBABILITY = 1e-6  # a calibration takes smaller ones for this
_FEW_EXPLORING = 200  # unconfounded rows below which responses are not calibrated
_RESTED_LOGIT = 4.0  # at which fatigue networks start: a factor of .98
_FEW_OUTCOMES = 50  # calibration events of either outcome below which a hazard is not calibrated


class SummaryNet(Standardising):
    """A small network on the standardised summary of a state."""

    def __init__(self, num_inputs: int, num_outputs: int, hidden: int, bias: float = 0.0) -> None:
        super().__init__(num_inputs)
        last = nn.Linear(hidden, num_outputs)
        self.net = nn.Sequential(
            nn.Linear(num_inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), last
        )
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, bias)

    def forward(self, summary_BM: Tensor) -> Tensor:
        """Logits [B, outputs]."""
        return self.net((summary_BM - self.mean) / self.scale)


def fatigue_loss(fatigue_logits: Tensor, match_logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of fatigue factor * match, in log space."""
    log_p = nn.functional.logsigmoid(fatigue_logits) + nn.functional.logsigmoid(match_logits)
    log_p = log_p.clamp(max=-1e-6)
    return -(labels * log_p + (1 - labels) * torch.log1p(-log_p.exp())).mean()


def leave_loss(logits: Tensor, known: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of the discrete-time hazard over events whose outcome is known.

    A censored event adds nothing: this is the likelihood under right-censoring.
    """
    losses = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels, reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


@torch.no_grad()
def summaries(
    dataset: SessionDataset, rows: Tensor, *, after: bool, categories: bool = False
) -> Tensor:
    """Inputs [R, M] of the hazard after the events `rows` [R], or of fatigue before them."""

    def of(part: SessionDataset, chosen: Tensor) -> Tensor:
        summary, found = SessionSummary(part.catalogue, categories), []
        for chunk in chosen.split(8192):
            state = part.next_state(chunk) if after else part.state(chunk)
            found.append(
                summary(state, part.snapshot(chunk), None if after else part.item_id(chunk))
            )
        return torch.cat(found)

    if len(rows):
        return out_of_fold(dataset, rows, of)
    return torch.zeros(0, _width(dataset, after=after, categories=categories))


def _width(dataset: SessionDataset, *, after: bool, categories: bool) -> int:
    """Columns of `summaries`."""
    summary = SessionSummary(dataset.catalogue, categories)
    return summary.size(len(dataset.tasks), dataset.num_user_features, shown=not after)


def fit_fatigue(
    ranker: Ranker,
    dataset: SessionDataset,
    rows: Tensor,
    later: Tensor,
    config: SimulatorConfig,
    seed: int,
) -> SummaryNet:
    """The network of fatigue logits [B, H] from a state and the item shown, for one member."""
    num_inputs = _width(dataset, after=False, categories=config.item_categories)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = SummaryNet(num_inputs, len(dataset.tasks), config.hidden, _RESTED_LOGIT)
    parts = []
    for chosen in (rows, later):
        match, labels = (
            predict(ranker, dataset, chosen)
            if len(chosen)
            else (torch.zeros(0, len(dataset.tasks)), torch.zeros(0, len(dataset.tasks)))
        )
        inputs = summaries(dataset, chosen, after=False, categories=config.item_categories)
        parts.append(Fit(inputs, match, labels))
    fit_network(net, parts[0], parts[1], fatigue_loss, config, seed)
    return net.eval()


def fit_leave(
    dataset: SessionDataset, rows: Tensor, later: Tensor, config: SimulatorConfig, seed: int
) -> SummaryNet:
    """Hazard logit [B, 1] of leaving after an event, from the state after it.

    In logs of several days newer days weigh more. Once the calibration split has decided how many
    epochs are best, it is fitted too: items and counts of a user's events age with the log, and a
    network that saw only younger ones would extrapolate the trend of its days.
    """
    categories = config.item_categories
    train, held_out = (_outcomes(dataset, chosen, categories) for chosen in (rows, later))
    net = _hazard(train, config, seed)
    weights = recency_weights(dataset, torch.cat([rows, later]))
    train.context = train.context * weights[: len(rows)]
    num_epochs = fit_network(net, train, held_out, leave_loss, config, seed)
    if bool((weights < 1.0).any()) and bool(held_out.context.any()):
        net, both = _hazard(train, config, seed), _joined(train, held_out, weights[len(rows) :])
        again = dataclasses.replace(config, num_epochs=num_epochs)
        fit_network(net, both, held_out, leave_loss, again, seed)
    calibrate_leave(net, held_out)
    return net.eval()


def _outcomes(dataset: SessionDataset, rows: Tensor, categories: bool) -> Fit:
    """Inputs of the hazard, whether the outcome of each event is known, and the outcome."""
    inputs = summaries(dataset, rows, after=True, categories=categories)
    return Fit(inputs, dataset.left_known(rows).float(), dataset.left(rows).float())


def _hazard(train: Fit, config: SimulatorConfig, seed: int) -> SummaryNet:
    """A network that starts at the training rate of leaving."""
    known = train.context.bool()
    rate = train.labels[known].mean().clamp(1e-4, 1 - 1e-4) if known.any() else 0.05
    bias = float(torch.logit(torch.as_tensor(rate)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SummaryNet(train.inputs.shape[1], 1, config.hidden, bias)


def _joined(train: Fit, later: Fit, weights_R: Tensor) -> Fit:
    """Training and calibration rows together, the latter weighted."""
    return Fit(
        torch.cat([train.inputs, later.inputs]),
        torch.cat([train.context, later.context * weights_R]),
        torch.cat([train.labels, later.labels]),
    )


def calibrate_leave(net: SummaryNet, later: Fit) -> None:
    """Fit slope and offset of the hazard's logit on later days (Platt 1999), into the last layer.

    The rate of leaving drifts from day to day, and early stopping does not follow it. Nothing
    changes where fewer than 50 later events of either outcome are known.
    """
    known = later.context.bool()
    labels = later.labels[known]
    if min(int(labels.sum()), int((1 - labels).sum())) < _FEW_OUTCOMES:
        return
    with torch.no_grad():
        logits = net(later.inputs[known])[:, 0]
    slope, offset = platt(logits, labels)
    last = cast(nn.Linear, net.net[-1])
    with torch.no_grad():
        last.weight.mul_(slope)
        last.bias.mul_(slope).add_(offset)


@torch.no_grad()
def with_learned_effects(
    ranker: Ranker,
    dataset: SessionDataset,
    rows: Tensor,
    later: Tensor,
    config: SimulatorConfig,
    seed: int,
) -> tuple[SessionDataset, dict[str, float]]:
    """The same events, whose items also have their effects as features (`effects`).

    Without effects, responses are predicted by the ranker times a fatigue factor, and leaving by a
    hazard; both know how the session goes and nothing of what was shown.
    """
    plain, config = without_content(dataset), dataclasses.replace(config, item_categories=False)
    with torch.enable_grad():
        fatigue = fit_fatigue(ranker, plain, rows, later, config, seed) if config.fatigue else None
        hazard = fit_leave(plain, rows, later, config, seed)
    response_RH = predict(ranker, dataset, rows)[0].sigmoid()
    if fatigue is not None:
        response_RH = response_RH * fatigue(summaries(plain, rows, after=False)).sigmoid()
    leave_R = hazard(summaries(plain, rows, after=True)).sigmoid()[:, 0]
    return with_effects(dataset, rows, response_RH, leave_R)


class Coupling(IntEnum):
    """How a task is drawn given the first task, the view."""

    shared = 0  # from the view's own uniform: the two nearly always agree
    with_view = 1  # only where there is a view
    without_view = 2  # only where there is none
    independent = 3


def joint_feedback(probability_BH: Tensor, uniforms_BH: Tensor, couplings: Sequence[int]) -> Tensor:
    """Feedback [B, H] bool, drawn so that combinations that never occur do not occur.

    The first task is the view; `couplings` gives each task's relation to it. Marginals are kept
    where possible: the probability given the view is p_h / p_view, at most 1.
    """
    view_B, p_view = uniforms_BH[:, 0] < probability_BH[:, 0], probability_BH[:, 0]
    columns = [view_B]
    for h in range(1, probability_BH.shape[1]):
        p_B, u_B = probability_BH[:, h], uniforms_BH[:, h]
        match couplings[h]:
            case Coupling.shared:
                columns.append(uniforms_BH[:, 0] < p_B)
            case Coupling.with_view:
                columns.append(view_B & (u_B < p_B / p_view.clamp(min=1e-6)))
            case Coupling.without_view:
                columns.append(~view_B & (u_B < p_B / (1 - p_view).clamp(min=1e-6)))
            case _:
                columns.append(u_B < p_B)
    return torch.stack(columns, dim=1)


def joint_rate(probability_BH: Tensor, couplings: Sequence[int]) -> Tensor:
    """[B, H]: the marginal rate of each feedback that `joint_feedback` draws."""
    rate_BH, p_view = probability_BH.clone(), probability_BH[:, 0]
    for h in range(1, probability_BH.shape[1]):
        match couplings[h]:
            case Coupling.with_view:
                rate_BH[:, h] = torch.minimum(probability_BH[:, h], p_view)
            case Coupling.without_view:
                rate_BH[:, h] = torch.minimum(probability_BH[:, h], 1 - p_view)
    return rate_BH


def task_couplings(labels: Tensor) -> list[int]:
    """The `Coupling` of each task with the first one, from logged labels [R, H].

    At least 95 of 100 positives with (without) the view make a task need it (its absence); a
    phi of at least .6 makes it share the view's uniform.
    """
    view, couplings = labels[:, 0].bool(), [int(Coupling.shared)]
    for h in range(1, labels.shape[1]):
        task = labels[:, h].bool()
        share = (task & view).sum().item() / max(int(task.sum()), 1)
        phi = torch.corrcoef(torch.stack([view.float(), task.float()]))[0, 1].item()
        if phi >= 0.6:
            couplings.append(int(Coupling.shared))
        elif int(task.sum()) and share >= 0.95:
            couplings.append(int(Coupling.with_view))
        elif int(task.sum()) and share <= 0.05:
            couplings.append(int(Coupling.without_view))
        else:
            couplings.append(int(Coupling.independent))
    return couplings


@torch.no_grad()
def fit_exploring(
    rankers: Sequence[Ranker],
    fatigue_nets: Sequence[SummaryNet],
    dataset: SessionDataset,
    later: Tensor,
    *,
    categories: bool = False,
) -> list[Calibration]:
    """Calibration of each member's probabilities on rows where the logging policy knew no more.

    A logging policy shows an item to users whom it expects to like it, by what it knows of them; a
    model of its logs then overrates the item for everybody else. Unconfounded rows are free of this
    bias. Ours.

    Args:
        rankers: the members.
        fatigue_nets: one for each ranker, or none.
        dataset: the log.
        later: [R] rows of the calibration split, from which the unconfounded ones are taken.
        categories: whether the fatigue networks see categories.

    Returns:
        One for each member; none where there are fewer than 200 unconfounded rows.
    """
    rows = later[unconfounded_rows(dataset, later)]
    if len(rows) < _FEW_EXPLORING:
        return []
    summary = None
    if fatigue_nets:
        summary = summaries(dataset, rows, after=False, categories=categories)
    found = []
    for index, ranker in enumerate(rankers):
        logits, labels = predict(ranker, dataset, rows)
        if summary is not None:
            tired = logits.sigmoid() * fatigue_nets[index](summary).sigmoid()
            logits = torch.logit(tired, eps=LEAST_PROBABILITY)
        found.append(Calibration(logits.shape[1]))
        found[-1].fit(logits, labels)
    return found


def calibrated(calibration: Calibration, probability: Tensor) -> Tensor:
    """Probabilities [..., H] mapped by a calibration of logits."""
    return calibration(torch.logit(probability, eps=LEAST_PROBABILITY)).sigmoid()
