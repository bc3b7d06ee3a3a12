"""The configuration of a run, registered with Hydra.

YAML in `conf/` only picks values. Beyond the command line nobody sees a DictConfig: `resolve` turns
it into dataclasses once.
"""

from recomind.config.following import reward_weights
from recomind.config.resolving import conf_dir, register, resolve
from recomind.config.schema import CollectConfig, KeepRound, RecomindConfig
from recomind.config.variables import FromEnvironment, plain
from recomind.config.worlds import make_world
from recomind.folders import register_folders

register_folders()  # a launcher's worker imports this package, and calls nothing in it

__all__ = [
    "CollectConfig",
    "FromEnvironment",
    "KeepRound",
    "RecomindConfig",
    "conf_dir",
    "make_world",
    "plain",
    "register",
    "resolve",
    "reward_weights",
]
