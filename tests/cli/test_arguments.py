"""Flags and settings in any order, folders of presets, and what is said of wrong ones."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recomind.cli.arguments import parse
from recomind.cli.hydra_app import refuse_foreign_targets
from recomind.errors import ConfigError
from tests.flow.in_process import Command


@pytest.mark.parametrize(
    "words", [*itertools.permutations(["x=1", "--config-dir", "-m", "seed=0,1"])], ids=" ".join
)
def test_flags_and_settings_mix(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [w for word in words for w in ([word, str(tmp_path)] if "dir" in word else [word])]
    given = parse(arguments)
    assert sorted(given.overrides) == ["seed=0,1", "x=1"]
    assert given.multirun
    assert given.config_dirs == [tmp_path]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--multrun"], "unknown flag '--multrun'; to mend: did you mean '--multirun'?"),
        (["--experimental-rerun", "x.pickle"], "unknown flag '--experimental-rerun'"),
        (["--shell-completion"], "unknown flag '--shell-completion'"),
        (["--config-dir", "nowhere"], "--config-dir is not a folder; got: nowhere"),
        (["--config-dir"], "expected one argument; to mend: --help lists the flags"),
        (["--cfg", "jobs"], "invalid choice: 'jobs'"),
        (["-m", "--cfg", "job"], "flags that exclude each other"),
        (["--resolve"], "to mend: add --cfg job"),
        (["seed"], "unreadable setting 'seed'; expected: key=value"),
        (["world=null"], "world=none"),
    ],
)
def test_wrong_flags(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(words)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=0,1", "several values for one run: 'seed=0,1'; to mend: add -m"),
        ("seed=1e3", "to mend: write a whole number with its digits, such as 1000 for 1e3"),
        (
            "data.root=/data/run=3",
            """to mend: quote what has =, brackets, commas or spaces: "data.root='/data/run=3'\"""",
        ),
        ("data.root=/data(1)", """"data.root='/data(1)'\""""),
        ("data=null", "data=null is no choice; to mend: leave data=... out"),
        ("collect=null", "field 'collect' is not Optional"),
        ("output=", "output is empty; to mend: give output=..."),
        ("output=' '", "output is empty"),
        ("name=", "name is empty"),
        (f"seed={10**30}", "expected: at most 9,223,372,036,854,775,807"),
        (
            f"collect.num_sessions={2**40}",
            "collect.num_sessions; got: 1099511627776; expected: at most",
        ),
        ("+hydra.callbacks.x._target_=os.system", "hydra.callbacks.x._target_ is outside"),
        ("+hydra.job_logging.handlers.x.class=shop.Handler", "is outside the allowed prefixes"),
        ("hydra.mode=MULTIRUN", "collect.num_sessions; got: 0"),
    ],
)
def test_one_line_with_the_mend(command: Command, setting: str, message: str) -> None:
    given = ["experiment=tiny", setting]
    if setting == "hydra.mode=MULTIRUN":
        given.append("collect.num_sessions=0")
    outcome = command("collect-logs", *given)
    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert message in line
    written = [path for path in Path().rglob("*") if path.is_file() and ".hydra" not in path.parts]
    assert [path for path in written if path.name != "multirun.yaml"] == []


def test_code_that_hydra_would_run_can_be_allowed(command: Command) -> None:
    callback = "+hydra.callbacks.x._target_=hydra.experimental.callbacks.LogJobReturnCallback"
    setting = ["experiment=tiny", "collect.num_sessions=20", callback]
    assert command("collect-logs", *setting).status == 2
    allowed = "allowed_targets=[hydra.experimental]"
    assert command("collect-logs", *setting, allowed).status == 0


@pytest.mark.parametrize(
    "setting",
    [
        "training.gamma=2",
        "world.num_itms=3",
        "ranker.dim=9",
        f"seed={10**30}",
        "world._target_=os.x",
    ],
)
def test_showing_the_config_checks_it(command: Command, setting: str) -> None:
    shown = command("collect-logs", "experiment=tiny", setting, "--cfg", "job")
    run = command("collect-logs", "experiment=tiny", setting)
    assert (shown.status, shown.err) == (run.status, run.err)
    assert shown.status == 2
    assert shown.out == ""


def test_showing_the_config(command: Command) -> None:
    shown = command("collect-logs", "--cfg", "job", "experiment=tiny", "-p", "collect")
    assert shown.status == 0, shown.err
    assert "num_sessions: 800" in shown.out
    assert list(Path().iterdir()) == []


def preset(folder: Path, name: str, sessions: int) -> None:
    (folder / "experiment").mkdir(parents=True, exist_ok=True)
    text = f"# @package _global_\ncollect:\n  num_sessions: {sessions}\n"
    (folder / "experiment" / f"{name}.yaml").write_text(text)


def sessions_of(command: Command, *arguments: str) -> str:
    shown = command("collect-logs", *arguments, "--cfg=job", "-p", "collect.num_sessions")
    assert shown.status == 0, shown.err
    return shown.out.strip()


def test_the_working_folders_presets_are_found(command: Command) -> None:
    preset(Path("conf"), "mine", 11)
    assert sessions_of(command, "experiment=mine", "world=steady") == "11"
    Path("conf/data").mkdir()
    Path("conf/data/shop.yaml").write_text("holdout_share: 0.5\n")
    shown = command("run", "data=shop", "world=steady", "--cfg=job", "-p", "data.holdout_share")
    assert shown.out.strip() == "0.5"


def test_packaged_names_are_not_replaced(command: Command) -> None:
    preset(Path("conf"), "tiny", 11)
    Path("conf/base.yaml").write_text("name: other\n")
    assert sessions_of(command, "experiment=tiny") == "800"


def test_a_named_folder_comes_before_the_working_folders(command: Command) -> None:
    preset(Path("conf"), "mine", 11)
    preset(Path("elsewhere"), "mine", 12)
    assert sessions_of(command, "experiment=mine", "world=steady", "-cd", "elsewhere") == "12"


def test_another_primary_config(command: Command) -> None:
    Path("conf").mkdir()
    Path("conf/mine.yaml").write_text("defaults: [base, _self_]\ncollect: {num_sessions: 13}\n")
    assert sessions_of(command, "--config-name", "mine", "world=steady") == "13"


def test_a_factory_of_a_log_handler_is_code_too() -> None:
    handlers = {"x": {"()": "os.system"}}
    config = OmegaConf.create({"hydra": {"job_logging": {"handlers": handlers}}})
    with pytest.raises(ConfigError, match=r"hydra\.job_logging\.handlers\.x\.\(\) is outside"):
        refuse_foreign_targets(config)
