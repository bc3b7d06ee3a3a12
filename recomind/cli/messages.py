"""One line, with the mend, for what Hydra and OmegaConf refuse."""

from __future__ import annotations

from hydra.errors import MissingConfigException, OverrideParseException

from recomind.config import conf_dir
from recomind.errors import ConfigError, did_you_mean


def config_error(error: BaseException) -> ConfigError:
    """The error of ours that says what an error of Hydra or OmegaConf means for the user."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        # Hydra tells the options of the outermost group; `world/suite` has its own.
        within = [path.stem for path in (conf_dir() / group).glob("*.yaml")] if "/" in group else []
        known = within or error.options
        return ConfigError(f"unknown {group or 'config'} {name!r}: {did_you_mean(name, known)}")
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override or "")
    text = " ".join(str(error).split("\n")[0].split())
    if text.startswith("Ambiguous value for argument"):
        return _several_values(text.partition("'")[2].rpartition("'")[0])
    return _about_a_key(error, text)


def _unreadable(override: str) -> ConfigError:
    key, equals, value = override.partition("=")
    what = f"unreadable override {override!r}"
    if not equals or not key.strip() or value.startswith("="):
        return ConfigError(what, expected="key=value")
    quoted = value.replace("'", "\\'")
    return ConfigError(
        what, mend=f"""quote what has =, brackets, commas or spaces: "{key}='{quoted}'" """.strip()
    )


def _several_values(override: str) -> ConfigError:
    key, _, value = override.partition("=")
    return ConfigError(
        f"several values for one run: {override!r}",
        mend=f"add -m for a run with each, or write a list as '{key}=[{value}]'",
    )


def _about_a_key(error: BaseException, text: str) -> ConfigError:
    root = _root(error)
    key = getattr(root, "key", None) or getattr(error, "key", None)
    parent = getattr(root, "parent_node", None)
    full = getattr(root, "full_key", None)
    detail = str(root).split("\n")[0]
    if key is not None and parent is not None and "not in" in str(root):
        known = did_you_mean(str(key), [str(k) for k in parent])
        return ConfigError(f"unknown setting {full or key!r}: {known}")
    if full and full not in detail:
        whole = "Integer" in detail and "float" in detail
        mend = "write a whole number with its digits, such as 1000 for 1e3" if whole else ""
        return ConfigError(f"{full}: {detail}", mend=mend)
    return ConfigError(text if detail in text else f"{text}: {detail}")


def _root(error: BaseException) -> BaseException:
    """The first cause, or the last one on the way to it that knows its setting."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    knowing = [one for one in chain if getattr(one, "full_key", None)]
    return knowing[-1] if knowing else chain[-1]
