"""A torch module of yours and what the policy adds to it, with the same `forward`.

    from policy_module import load
    module = load(make_your_module(), folder)

Needs torch and safetensors alone; `folder` holds this file, `model.safetensors` (your weights as
they were) and `residual.safetensors`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

EDGE = 1e-6  # probabilities are kept this far from 0 and 1, where logits are infinite
HIDDEN = 64


class PolicyModule(nn.Module):
    """Your module, and a small network over the same inputs that is added to its logits.

    Args:
        theirs: your module; it is not changed.
        num_inputs: columns of its floating-point inputs, all beside one another.
        num_outputs: columns of what it returns.
        probabilities: whether it returns these, and not logits.
    """

    mean: Tensor  # [num_inputs]
    scale: Tensor  # [num_inputs]
    probabilities: Tensor  # bool

    def __init__(
        self, theirs: nn.Module, num_inputs: int, num_outputs: int, *, probabilities: bool = False
    ) -> None:
        super().__init__()
        self.theirs = theirs
        self.net = nn.Sequential(
            nn.Linear(num_inputs, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, num_outputs),
        )
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)  # your module's own answers, until something is learned
        nn.init.zeros_(last.bias)
        self.register_buffer("mean", torch.zeros(num_inputs))
        self.register_buffer("scale", torch.ones(num_inputs))
        self.register_buffer("probabilities", torch.tensor(probabilities))

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """As your module: the same inputs, and outputs of the same shape and kind."""
        output = self.theirs(*inputs, **named)
        rows = (float_columns((*inputs, *named.values())) - self.mean) / self.scale
        added = self.net(rows).reshape(output.shape)
        if self.probabilities:
            return (output.clamp(EDGE, 1 - EDGE).logit() + added).sigmoid()
        return output + added

    def residual_state(self) -> dict[str, Tensor]:
        """All but your module's own tensors."""
        state = self.state_dict()
        return {name: state[name] for name in state if not name.startswith("theirs.")}


def float_columns(inputs: Any) -> Tensor:
    """The floating-point tensors of `inputs`, each [R, ...], as columns beside one another."""
    tensors = [part for part in inputs if isinstance(part, Tensor) and part.is_floating_point()]
    return torch.cat([part.flatten(1) if part.dim() > 1 else part[:, None] for part in tensors], 1)


def load(theirs: nn.Module, folder: str | Path) -> PolicyModule:
    """Your module with the policy's part, from the files of `folder`; ready to be asked."""
    theirs.load_state_dict(safetensors.torch.load_file(Path(folder) / "model.safetensors"))
    tensors = safetensors.torch.load_file(Path(folder) / "residual.safetensors")
    module = PolicyModule(theirs, len(tensors["mean"]), len(tensors["net.4.bias"]))
    absent = module.load_state_dict(tensors, strict=False)
    if absent.unexpected_keys or any(not n.startswith("theirs.") for n in absent.missing_keys):
        raise ValueError(f"residual.safetensors is not of this module: {absent}")
    return module.eval()
