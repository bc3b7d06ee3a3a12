"""The response model: attenuation(state) x ranker probability, dwell time, and leaving.

    p_h(s, a) = attenuation_h(s) * sigmoid(match_h(s, a))

The match is any `Ranker`'s calibrated logit. The attenuation depends on the state alone: without
it the model goes on promising responses to users who have tired of everything. Tasks are drawn
jointly from one uniform per group, so that what cannot happen together does not. All ours.

Symbols: `B` sessions, `H` tasks, `Q` dwell quantiles, `M` summary features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import cast

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset
from recomind.ranker import Calibration, predict
from recomind.ranker.calibration import platt
from recomind.simulation.config import SimulatorConfig
from recomind.simulation.effects import out_of_fold, with_effects, without_content
from recomind.simulation.exploring import unconfounded_rows
from recomind.simulation.recency import recency_weights
from recomind.simulation.summary import summarise, summary_size
from recomind.streams import make_generator
from recomind.types import Ranker

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of outputs, context, labels
LEAST_PROBABILITY = 1e-6  # that a calibration tells from 0
_FEW_EXPLORING = 200  # rows below which nothing is calibrated on them
_OPEN = 4.0  # logit at which an attenuation starts: .98
_FEW_OUTCOMES = 50  # later events of either outcome below which a hazard is not calibrated


class Standardising(nn.Module):
    """A small network that knows mean and scale of its inputs, for `fit_network`."""

    mean: Tensor  # [inputs]
    scale: Tensor  # [inputs]

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_inputs))
        self.register_buffer("scale", torch.ones(num_inputs))

    def standardise(self, inputs_RM: Tensor) -> None:
        """Take mean and scale from rows."""
        self.mean.copy_(inputs_RM.mean(0))
        self.scale.copy_(inputs_RM.std(0).clamp(min=1e-3))


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


@dataclass(slots=True)
class Fit:
    """A batch for `fit_network`: inputs, what the loss needs, and which rows to hold out."""

    inputs: Tensor  # [R, M]
    context: Tensor  # [R, ...] whatever the loss takes beside the outputs
    labels: Tensor  # [R, ...]


def fit_network(
    net: Standardising, train: Fit, held_out: Fit, loss: Loss, config: SimulatorConfig, seed: int
) -> int:
    """Minimise `loss(outputs, context, labels)`; keep the best epoch on the held-out rows.

    Returns:
        After how many epochs that was.
    """
    net.standardise(train.inputs)
    generator = make_generator(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=1e-3)
    best, best_loss, best_epoch = None, float("inf"), config.num_epochs
    for epoch in range(config.num_epochs):
        order = torch.randperm(len(train.inputs), generator=generator)
        for rows in order.split(config.batch_size):
            value = loss(net(train.inputs[rows]), train.context[rows], train.labels[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        with torch.no_grad():
            judged = held_out if len(held_out.inputs) else train
            value = loss(net(judged.inputs), judged.context, judged.labels).item()
        if value < best_loss:
            best, best_loss = {k: v.clone() for k, v in net.state_dict().items()}, value
            best_epoch = epoch + 1
    if best is not None:
        net.load_state_dict(best)
    return best_epoch


def attenuation_loss(attenuation_logits: Tensor, match_logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of attenuation * match, in log space."""
    log_p = nn.functional.logsigmoid(attenuation_logits) + nn.functional.logsigmoid(match_logits)
    log_p = log_p.clamp(max=-1e-6)
    return -(labels * log_p + (1 - labels) * torch.log1p(-log_p.exp())).mean()


def leave_loss(logits: Tensor, known: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of the discrete-time hazard over events whose outcome is known.

    A censored event adds nothing, which is the likelihood under right-censoring.
    """
    losses = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels, reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def summary_width(dataset: SessionDataset) -> int:
    """Number of summary features `M` of the dataset's states."""
    num_dense = len(dataset.catalogue.dense_names)
    return summary_size(len(dataset.tasks), dataset.num_user_features, num_dense)


@torch.no_grad()
def summaries(dataset: SessionDataset, rows: Tensor, *, after: bool) -> Tensor:
    """Summaries [R, M] of the states before, or after, the events `rows` [R]."""

    def of(part: SessionDataset, chosen: Tensor) -> Tensor:
        take = part.next_state if after else part.state
        return torch.cat(
            [
                summarise(take(chunk), part.catalogue, part.snapshot(chunk))
                for chunk in chosen.split(8192)
            ]
        )

    return out_of_fold(dataset, rows, of)


def fit_attenuation(
    ranker: Ranker,
    dataset: SessionDataset,
    rows: Tensor,
    later: Tensor,
    config: SimulatorConfig,
    seed: int,
) -> SummaryNet:
    """Logits [B, H] of the attenuation in a state, for one member of the ensemble."""
    num_inputs = summary_width(dataset)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = SummaryNet(num_inputs, len(dataset.tasks), config.hidden, _OPEN)
    parts = []
    for chosen in (rows, later):
        match, labels = (
            predict(ranker, dataset, chosen)
            if len(chosen)
            else (torch.zeros(0, len(dataset.tasks)), torch.zeros(0, len(dataset.tasks)))
        )
        inputs = (
            summaries(dataset, chosen, after=False) if len(chosen) else torch.zeros(0, num_inputs)
        )
        parts.append(Fit(inputs, match, labels))
    fit_network(net, parts[0], parts[1], attenuation_loss, config, seed)
    return net.eval()


def fit_leave(
    dataset: SessionDataset, rows: Tensor, later: Tensor, config: SimulatorConfig, seed: int
) -> SummaryNet:
    """Hazard logit [B, 1] of leaving after an event, from the state after it.

    In logs of several days newer ones count more, and once the later ones have said how many
    epochs are best they are fitted too: items and counts of a user's events age with the log, and
    a network that saw them younger would carry the trend of its own days on.
    """
    train, held_out = (_outcomes(dataset, chosen) for chosen in (rows, later))
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


def _outcomes(dataset: SessionDataset, rows: Tensor) -> Fit:
    """What the hazard sees of the events, whether their outcome is known, and which it was."""
    none = torch.zeros(0, summary_width(dataset))
    inputs = summaries(dataset, rows, after=True) if len(rows) else none
    return Fit(inputs, dataset.left_known(rows).float(), dataset.left(rows).float())


def _hazard(train: Fit, config: SimulatorConfig, seed: int) -> SummaryNet:
    """A network that says the training rate everywhere."""
    known = train.context.bool()
    rate = train.labels[known].mean().clamp(1e-4, 1 - 1e-4) if known.any() else 0.05
    bias = float(torch.logit(torch.as_tensor(rate)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SummaryNet(train.inputs.shape[1], 1, config.hidden, bias)


def _joined(train: Fit, later: Fit, weights_R: Tensor) -> Fit:
    """Training and later days together, the later ones weighted."""
    return Fit(
        torch.cat([train.inputs, later.inputs]),
        torch.cat([train.context, later.context * weights_R]),
        torch.cat([train.labels, later.labels]),
    )


def calibrate_leave(net: SummaryNet, later: Fit) -> None:
    """Slope and offset of the hazard's logit on later days (Platt 1999), into the last layer.

    How often users leave drifts from day to day, and an early stop does not move it. Nothing
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
    """The same events, of items that are known by their effects too (`effects`).

    The responses expected of `rows` without them are the ranker's, attenuated; attenuation and
    hazard know how a session goes, and nothing of what was shown.
    """
    plain = without_content(dataset)
    with torch.enable_grad():
        attenuation = (
            fit_attenuation(ranker, plain, rows, later, config, seed) if config.gate else None
        )
        hazard = fit_leave(plain, rows, later, config, seed)
    response_RH = predict(ranker, dataset, rows)[0].sigmoid()
    if attenuation is not None:
        response_RH = response_RH * attenuation(summaries(plain, rows, after=False)).sigmoid()
    leave_R = hazard(summaries(plain, rows, after=True)).sigmoid()[:, 0]
    return with_effects(dataset, rows, response_RH, leave_R)


class Coupling(IntEnum):
    """How a task is drawn beside the first one, the view."""

    shared = 0  # from the view's own uniform: the two nearly always agree
    with_view = 1  # only where there is a view
    without_view = 2  # only where there is none
    independent = 3


def joint_feedback(probability_BH: Tensor, uniforms_BH: Tensor, couplings: Sequence[int]) -> Tensor:
    """Feedback [B, H] bool, drawn so that combinations that never occur do not occur.

    The first task is the view; `couplings` says for each task how it goes with it. Marginals are
    kept where they can be: the probability given the view is p_h / p_view, at most 1.
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
    """[B, H]: how often each feedback occurs among those that `joint_feedback` draws."""
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
    attenuations: Sequence[SummaryNet],
    dataset: SessionDataset,
    later: Tensor,
) -> list[Calibration]:
    """Calibrate each member's probabilities on rows where the logging policy knew nothing more.

    A logging policy shows an item to users whom it expects to like it, by what it knows of them; a
    model of its log believes that everybody would. Unconfounded rows are free of that. Ours.

    Args:
        rankers: the members.
        attenuations: one a ranker, or none.
        dataset: the log.
        later: [R] rows of later days, from which those are taken.

    Returns:
        One a member; none where there are fewer than 200 such rows.
    """
    rows = later[unconfounded_rows(dataset, later)]
    if len(rows) < _FEW_EXPLORING:
        return []
    summary = summaries(dataset, rows, after=False) if attenuations else None
    found = []
    for index, ranker in enumerate(rankers):
        logits, labels = predict(ranker, dataset, rows)
        if summary is not None:
            attenuated = logits.sigmoid() * attenuations[index](summary).sigmoid()
            logits = torch.logit(attenuated, eps=LEAST_PROBABILITY)
        found.append(Calibration(logits.shape[1]))
        found[-1].fit(logits, labels)
    return found


def calibrated(calibration: Calibration, probability: Tensor) -> Tensor:
    """Probabilities [..., H] mapped by a calibration of logits."""
    return calibration(torch.logit(probability, eps=LEAST_PROBABILITY)).sigmoid()
