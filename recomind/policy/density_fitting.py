"""Fits the density with which the logging policies showed the items that they could show.

Symbols: `R` rows of the log, `J` draws for each, `M` width of a state, `D` of an item, `N` items.

    g(a | s) = p(a shown | s) / ( p(a drawn from a pool | s) / 2 + 1 / 2N )

The logit of a logistic model that separates shown items from others is the log of the ratio of
their densities (Gutmann and Hyvarinen, "Noise-contrastive estimation", AISTATS 2010). The shown
items are the rows. Half of the others are the same rows again, each with the weight 1 / propensity:
under these weights each candidate of a pool counts the same (Horvitz and Thompson 1952), so that an
item which an index puts into every pool, and which is shown more often for that reason alone, does
not get a larger g. The other half are uniform draws from the catalogue, since an item that no
logging policy would show has no row to be weighted. Ours.

Where several logging policies wrote the rows, g belongs to their mixture: every row counts the
same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset
from recomind.errors import ConfigError
from recomind.fitting import Fit, fit_network
from recomind.policy.content import content
from recomind.policy.density import LoggedDensity, seen_of
from recomind.ranker import SessionRanker
from recomind.streams import draw_rows, make_generator

_MAX_ROWS = 40_000
_DRAWS = 4  # J
_MAX_WEIGHT = 20.0  # largest weight of a row as a draw from its pool; the mean is 1.0
_FEW = 200  # rows below which nothing is fitted
_UNKNOWN = 0.05  # largest share of unknown propensities in a round that counts
_BATCH_ROWS = 1024
_NUM_EPOCHS, _LEAST_UPDATES = 6, 600


def known_rows(dataset: SessionDataset, split: str) -> Tensor:
    """Rows [R] of a split with known propensity, without hold-out users.

    Rounds of logs in which more than 5 % are unknown are left out: there the known ones may be
    random exposures only, which say nothing about the logging policy.
    """
    rows = dataset.rows(split, holdout=False)
    known, round_index = dataset.propensity(rows) > 0.0, dataset.round_index(rows)
    for number in round_index.unique():
        here = round_index == number
        if float((~known[here]).double().mean()) > _UNKNOWN:
            known &= ~here
    return rows[known]


def check_propensities(dataset: SessionDataset) -> None:
    """Refuse logs that a density cannot be fitted to.

    Raises:
        ConfigError: fewer than 200 training rows can be used.
    """
    num = len(known_rows(dataset, "train"))
    if num >= _FEW:
        return
    raise ConfigError(
        "policy.support_density needs logs with propensities",
        got=f"{num} of {dataset.num_rows('train', holdout=False)} training rows in rounds of logs "
        f"where they are known",
        expected=f"at least {_FEW}",
        mend="set policy.support_density=0 and constrain by policy.support_ratio alone, or log the "
        "probability of each shown item",
    )


def fit_density(
    ranker: SessionRanker, dataset: SessionDataset, seed: int
) -> tuple[LoggedDensity, dict[str, float]]:
    """Fit the density of the training rows on the encodings of `ranker`; measure it on later days.

    Returns:
        The model, frozen, and `rows`, `log_loss` and `shown_above_uniform`: the share of logged
        rows whose density is above that of a uniform draw from the catalogue.

    Raises:
        ConfigError: see `check_propensities`.
    """
    check_propensities(dataset)
    generator = make_generator(seed)
    rows = [
        draw_rows(known_rows(dataset, s), _MAX_ROWS, generator) for s in ("train", "calibration")
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        density = LoggedDensity.of(ranker)
    width = density.state_width + density.item_width
    parts = [_samples(ranker, dataset, each, width, generator) for each in rows]
    fit_network(density, parts[0], parts[1], _loss, _settings(len(parts[0].inputs)), seed)
    density = density.eval().requires_grad_(False)
    later = parts[1] if len(rows[1]) else parts[0]
    return density, {"rows": float(len(rows[0]))} | _figures(density, later)


@dataclass(kw_only=True, slots=True)
class _Settings:
    num_epochs: int
    batch_size: int = _BATCH_ROWS
    learning_rate: float = 5e-3


def _settings(num_rows: int) -> _Settings:
    """Enough passes for a small log too; the best epoch on later days is kept."""
    updates = -(-num_rows // _BATCH_ROWS)
    return _Settings(num_epochs=max(_NUM_EPOCHS, -(-_LEAST_UPDATES // updates)))


@torch.no_grad()
def _samples(
    ranker: SessionRanker,
    dataset: SessionDataset,
    rows: Tensor,
    width: int,
    generator: torch.Generator,
) -> Fit:
    """Each row, then its draws: inputs [R (1 + J), M + D], weights of both labels [.., 2]."""
    draws_RJ = torch.randint(dataset.catalogue.num_items, (len(rows), _DRAWS), generator=generator)
    item_R1J = torch.cat([dataset.item_id(rows)[:, None], draws_RJ], dim=1)
    parts = [
        density_inputs(ranker, dataset, rows[at], item_R1J[at])
        for at in torch.arange(len(rows)).split(_BATCH_ROWS)
    ]
    weight = 1.0 / dataset.propensity(rows)
    weight = (weight / weight.mean()).clamp(max=_MAX_WEIGHT).float()
    weights_R1J2 = torch.zeros(len(rows), 1 + _DRAWS, 2)
    weights_R1J2[:, 0, 0], weights_R1J2[:, 0, 1] = 1.0, weight / 2
    weights_R1J2[:, 1:, 1] = 0.5 / _DRAWS
    inputs = torch.cat(parts) if parts else torch.zeros(0, 1 + _DRAWS, width)
    return Fit(
        inputs.flatten(0, 1), weights_R1J2.flatten(0, 1), torch.zeros(inputs[..., 0].numel())
    )


def density_inputs(
    ranker: SessionRanker, dataset: SessionDataset, rows: Tensor, item_RJ: Tensor
) -> Tensor:
    """Concatenated states and items [R, J, M + D], at the snapshots of the rows."""
    snapshot_R, state = dataset.snapshot(rows), dataset.state(rows)
    state_RM = seen_of(state, ranker.encode_state(state, snapshot_R))
    item_RJD = content(dataset.catalogue, item_RJ, snapshot_R[:, None].expand_as(item_RJ))
    return torch.cat([state_RM[:, None].expand(-1, item_RJ.shape[1], -1), item_RJD], dim=2)


def _loss(logits_R1: Tensor, weights_R2: Tensor, labels: Tensor) -> Tensor:
    del labels
    softplus = nn.functional.softplus
    shown_R, other_R = softplus(-logits_R1[:, 0]), softplus(logits_R1[:, 0])
    return (weights_R2[:, 0] * shown_R + weights_R2[:, 1] * other_R).mean()


@torch.no_grad()
def _figures(density: LoggedDensity, fit: Fit) -> dict[str, float]:
    logits_R1 = density(fit.inputs)
    logits_RJ = logits_R1.view(-1, 1 + _DRAWS)
    above = (logits_RJ[:, :1] > logits_RJ[:, 1:]).float().mean()
    # For each logged row, not for each row of the fit.
    loss = _loss(logits_R1, fit.context, fit.labels) * (1 + _DRAWS)
    return {"log_loss": float(loss), "shown_above_uniform": float(above)}
