"""Categories of items as dense features, for models that see dense features only.

`N` items, `F` dense features, `C` categorical ones.
"""

from __future__ import annotations

import torch

from recomind.data import TableCatalogue
from recomind.simulation.summary import few_valued
from recomind.types import Catalogue


def with_values(catalogue: Catalogue) -> Catalogue:
    """The catalogue with a dense 0/1 column for each value of its few-valued categories.

    The simulator's model of dwell time sees dense features alone, and so did those of fatigue and
    leaving before `simulation.item_categories`. In an environment of 500 items with a flag on those
    that drive users away, the same run then lost 2.7 % [1.5, 3.9] to its ranker without these
    columns and won 22.6 % [18.7, 26.4] with them (4,000 sessions of logs, one seed, 1,500 paired
    sessions of truth). Categories with few values come first (`few_valued`); what is beyond is left
    out, and so are columns that exist already. Ids are left out: `simulation.item_effects` is for
    the effects of single items. Only `TableCatalogue`s are changed. Ours.
    """
    if not isinstance(catalogue, TableCatalogue):
        return catalogue
    columns, names = [], []
    for index, size in few_valued(catalogue, range(len(catalogue.vocab_sizes))):
        one_hot_NV = torch.nn.functional.one_hot(catalogue.categorical_NC[:, index], size)
        columns += one_hot_NV.float().unbind(1)
        names += [f"{catalogue.categorical_names[index]}={value}" for value in range(size)]
    there = catalogue.dense_DNF[-1].unbind(1)
    new = [
        (column, name)
        for column, name in zip(columns, names, strict=True)
        if not any(torch.equal(column, other) for other in there)
    ]
    if not new:
        return catalogue
    added_NV = torch.stack([column for column, _ in new], dim=1)
    added_DNV = added_NV.expand(len(catalogue.dense_DNF), -1, -1)
    return TableCatalogue(
        torch.cat([catalogue.dense_DNF, added_DNV], dim=2),
        catalogue.categorical_NC,
        dense_names=[*catalogue.dense_names, *(name for _, name in new)],
        categorical_names=catalogue.categorical_names,
        vocab_sizes=catalogue.vocab_sizes,
    )
