"""The RL algorithms, by the name that `training.algorithm` gives.

`bc`, `cql` and `iql` learn from logs alone; the others simulate. A new one is a folder beside
`dqn/` and `actor_critic/`, or a file in `offline/`, and a line in this table. The module that the
table names holds `ALGORITHM`, a `recomind.training.session_config.RLAlgorithm`. An algorithm
of your own needs no line: `training.algorithm=my_shop.rl.ALGORITHM`, and its settings go into
`training.options`.
"""

from __future__ import annotations

from recomind.errors import ConfigError, did_you_mean

ALGORITHMS: dict[str, str] = {
    "dqn": "recomind.training.dqn.algorithm",
    "actor_critic": "recomind.training.actor_critic.algorithm",
    "bc": "recomind.training.offline.bc",
    "cql": "recomind.training.offline.cql",
    "iql": "recomind.training.offline.iql",
}


def algorithm_name(name: str) -> str:
    """The dotted name of the algorithm that a setting gives.

    Raises:
        ConfigError: it is neither in the table nor a dotted name.
    """
    if name in ALGORITHMS:
        return f"{ALGORITHMS[name]}.ALGORITHM"
    if "." not in name:
        raise ConfigError(
            "training.algorithm",
            got=name,
            expected=f"one of {list(ALGORITHMS)}, or a dotted name such as my_shop.rl.ALGORITHM",
            mend=did_you_mean(name, ALGORITHMS),
        )
    return name
