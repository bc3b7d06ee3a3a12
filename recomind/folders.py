"""Names of the folders that runs and the jobs of sweeps are written to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

_IN_ANOTHER_NAME = ("experiment", "name")  # the sweep's own folder tells them
_PLAIN = re.compile(r"[\w.,=+-]{1,60}", re.ASCII)
_HEAD, _DIGITS = 40, 10


def job_name(overrides: Sequence[str]) -> str:
    """The folder of a sweep's job: its settings, or their beginning and a hash.

    The hash is of all settings as they were written, so that a job finds its folder again, and what
    `${oc.env:...}` stands for is not shown. `.hydra/overrides.yaml` inside has them in full.

    >>> job_name(["experiment=tiny", "seed=1", "training.gamma=0.9"])
    'seed=1,training.gamma=0.9'
    >>> job_name(["data.root=/mnt/logs"]).rpartition("-")[0]
    'data.root=_mnt_logs'
    """
    told = sorted(o for o in overrides if o.partition("=")[0].lstrip("+~") not in _IN_ANOTHER_NAME)
    name = ",".join(told) or "default"
    if _PLAIN.fullmatch(name) and name.strip("."):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    head = re.sub(r"[^\w.,=+-]+", "_", name, flags=re.ASCII)[:_HEAD].strip("._")
    return f"{head}-{digest}"


def register_folders() -> None:
    """Register what `conf/base.yaml` asks for: `recomind.output` and `recomind.job`."""
    OmegaConf.register_new_resolver("recomind.output", _output, replace=True)
    OmegaConf.register_new_resolver("recomind.job", _job, replace=True)


def _output(name: str) -> str:
    """The folder that Hydra has made for the job; before that, the one it will make."""
    if HydraConfig.initialized():
        runtime = HydraConfig.get().runtime
        if not OmegaConf.is_missing(runtime, "output_dir"):
            return runtime.output_dir
    return f"runs/{name}"


def _job() -> str:
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return job_name([str(override) for override in overrides or []])
