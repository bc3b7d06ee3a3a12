"""Impressions in runs: rows of one timeline that stand together share what they have in common.

Symbols: `B` impressions, `S` runs, `K` places of a run, `L` history length, `E` = L + K - 1 rows
that the histories of a run span.

    timeline     . . . . . . . . | 8 9 . 11 . . . . |      a run of K = 8, three impressions in it
    histories            4 5 6 7   8                       of row 9, L = 5
                             6 7   8 9 10                  of row 11

A run is a cell of a grid over the timeline, so that which rows stand together follows from the
rows alone. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recomind.data import SessionDataset


@dataclass(kw_only=True, slots=True)
class Runs:
    """The rows of a batch as runs."""

    place_B: Tensor  # which of the S * K places each impression has
    num_runs: int
    age_KE: Tensor  # how many events ago, 1 for the latest; below 1 for later ones
    outside_SKE: Tensor  # bool, the event is in the history, of an earlier session
    inside_SKE: Tensor  # bool, the event is in the history, of the present session
    # An event is encoded once for all impressions of its run; twice only where it is of the
    # present session for one of them and of an earlier session for another.
    event: Tensor  # [n] which of the [S, 2, E] (outside, inside) are encoded
    event_row: Tensor  # [n] rows
    event_inside: Tensor  # [n] bool
    event_snapshot: Tensor  # [n]


def order_by_runs(
    block: SessionDataset, rows: Tensor, length: int, generator: torch.Generator
) -> Tensor:
    """`rows` in a random order of their runs of `length` places."""
    if len(rows) == 0:
        return rows
    rows = rows.sort().values
    _, run = torch.unique_consecutive(_cell(block, rows, length), return_inverse=True)
    place = torch.randperm(int(run[-1]) + 1, generator=generator)
    return rows[place[run].argsort(stable=True)]


def _cell(dataset: SessionDataset, rows: Tensor, length: int) -> Tensor:
    """Which cell of the grid [B] each row is in, and of which snapshot."""
    begin = dataset.begin(rows)
    first = begin + (rows - begin) // length * length
    return first * dataset.catalogue.num_snapshots + dataset.snapshot(rows)


def runs_of(dataset: SessionDataset, rows: Tensor, length: int) -> Runs:
    """The runs of `rows` [B], which stand run by run, of at most `length` places each."""
    cell_S, run_B = torch.unique_consecutive(_cell(dataset, rows, length), return_inverse=True)
    num_snapshots, past, num_runs = (
        dataset.catalogue.num_snapshots,
        dataset.history_length,
        len(cell_S),
    )
    first_S, snapshot_S = cell_S // num_snapshots, cell_S % num_snapshots
    place_B = run_B * length + rows - first_S[run_B]
    column_E = torch.arange(-past, length - 1)
    age_KE = torch.arange(length)[:, None] - column_E
    # How many events come before each impression, in its history and in its session; none before
    # an empty place.
    before = torch.zeros(2, num_runs * length, dtype=torch.int64)
    before[0, place_B] = (rows - dataset.begin(rows)).clamp(max=past)
    before[1, place_B] = torch.minimum(before[0, place_B], dataset.position(rows))
    known_SK1, own_SK1 = before.view(2, num_runs, length, 1)
    inside_SKE = (age_KE <= own_SK1) & (age_KE >= 1)
    outside_SKE = (age_KE <= known_SK1) & (age_KE > own_SK1) & (age_KE >= 1)
    needed_S2E = torch.stack([outside_SKE.any(1), inside_SKE.any(1)], dim=1)
    event = needed_S2E.flatten().nonzero()[:, 0]
    run, column = event // (2 * len(column_E)), event % len(column_E)
    return Runs(
        place_B=place_B,
        num_runs=num_runs,
        age_KE=age_KE,
        outside_SKE=outside_SKE,
        inside_SKE=inside_SKE,
        event=event,
        event_row=first_S[run] + column - past,
        event_inside=event // len(column_E) % 2 == 1,
        event_snapshot=snapshot_S[run],
    )
