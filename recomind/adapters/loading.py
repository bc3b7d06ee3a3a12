"""Loads the model that a config describes, as something that can be asked."""

from __future__ import annotations

from pathlib import Path

from recomind.adapters.batches import Scorer
from recomind.adapters.config import ExternalConfig, ExternalKind
from recomind.adapters.flat_rows import FlatRows
from recomind.adapters.lightgbm_text import load_boosters
from recomind.adapters.onnx_file import load_onnx
from recomind.adapters.settings import inputs_function
from recomind.adapters.split import SplitModule, is_split
from recomind.adapters.torch_module import load_torch, load_torchscript, unpacking
from recomind.errors import ConfigError


def load_scorer(config: ExternalConfig, path: Path) -> Scorer:
    """The model of `config`, which lies at `path`.

    Raises:
        ConfigError: no `inputs` where the model needs one, or a function that is not allowed.
        ArtifactError: the model cannot be read.
    """
    name = f"{config.kind.value} ranker {path.name}"
    inputs = inputs_function(config)
    match config.kind:
        case ExternalKind.onnx:
            model = load_onnx(config, path)
        case ExternalKind.lightgbm:
            model = load_boosters(config, path)
        case ExternalKind.torchscript:
            model = unpacking(load_torchscript(config, path))
        case _:
            module = load_torch(config, path)
            if inputs is None and is_split(module):
                return SplitModule(module, config, name)
            model = unpacking(module)
    if inputs is None:
        raise ConfigError(
            "ranker.external.inputs is not given",
            expected="the dotted name of a function from RowBatch to what the model takes",
            mend="or, for kind=torch, a module with encode(StateBatch) and "
            "score(encoding, item_id, items)",
        )
    return FlatRows(model, inputs, config, name)
