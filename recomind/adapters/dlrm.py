"""Inputs of a TorchRec DLRM (Naumov et al. 2019, arXiv:1906.00091) from flat rows.

A DLRM takes dense features [R, D] and a `KeyedJaggedTensor` of ids. With this the function that
`ranker.external.inputs` names is a few lines:

    def inputs(batch: RowBatch) -> tuple[Tensor, KeyedJaggedTensor]:
        history = batch.state.history_item_id % 1000, batch.state.history_mask
        return dlrm_inputs(
            dense=[batch.state.user_features, batch.items.dense],
            sparse={"item": batch.item_id % 1000, "history": history},
        )

The names of `sparse` are the feature names of the model's `EmbeddingBagCollection`. TorchRec's
DLRM ends in a linear layer, so `ranker.external.output=logits`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from recomind.errors import SchemaError

Ids = Tensor | tuple[Tensor, Tensor]


def dlrm_inputs(
    *, dense: Sequence[Tensor], sparse: Mapping[str, Ids]
) -> tuple[Tensor, KeyedJaggedTensor]:
    """What `torchrec.models.dlrm.DLRM` takes, in its order.

    Args:
        dense: float tensors, each [R] or [R, d]; they are laid side by side.
        sparse: feature name -> ids [R] int64, one a row, or (ids [R, L], mask [R, L]), a bag a row
            of which only ids under the mask count.

    Returns:
        Dense features [R, D] float32, and the ids as a `KeyedJaggedTensor` of R rows.

    Raises:
        SchemaError: nothing dense or sparse, or numbers of rows that differ.

    >>> seen, mask = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[True, True], [False, True]])
    >>> dense, ids = dlrm_inputs(
    ...     dense=[torch.zeros(2, 3)], sparse={"item": torch.tensor([7, 8]), "seen": (seen, mask)}
    ... )
    >>> ids["seen"].values().tolist(), ids["seen"].lengths().tolist()
    ([1, 2, 4], [2, 1])
    """
    columns = [d[:, None] if d.dim() == 1 else d for d in dense]
    bags = {name: _bag(ids) for name, ids in sparse.items()}
    sizes = {len(c) for c in columns} | {len(mask) for _, mask in bags.values()}
    if not columns or not bags or len(sizes) != 1:
        raise SchemaError(
            "inputs of a DLRM do not fit together",
            got=f"{len(columns)} dense and {len(bags)} sparse features, rows {sorted(sizes)}",
            expected="at least one of each, all of the same number of rows",
        )
    jagged = KeyedJaggedTensor.from_lengths_sync(
        keys=list(bags),
        values=torch.cat([ids[mask] for ids, mask in bags.values()]),
        lengths=torch.cat([mask.sum(dim=1) for _, mask in bags.values()]),
    )
    return torch.cat(columns, dim=1).to(torch.float32), jagged


def _bag(ids: Ids) -> tuple[Tensor, Tensor]:
    """Ids [R, L] and mask [R, L] bool."""
    if isinstance(ids, Tensor):
        return ids[:, None], torch.ones_like(ids[:, None], dtype=torch.bool)
    return ids
