"""Export formats, by the names that `export.formats` gives.

The scorer itself (safetensors, read by `load_scorer`) is always written. A format is written
beside it, into a folder of its own: `export/<name>/`. A new one is a module beside `onnx/` and a
line in this table, which names an `ExportFormat`. A format of your own needs no line:
`export.formats=[my_shop.formats.FORMAT]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from recomind.errors import ConfigError, ParityError, did_you_mean
from recomind.plugins import resolve

if TYPE_CHECKING:
    from recomind.export.distilling import Lessons
    from recomind.export.golden import Golden
    from recomind.export.scorer import ExportRecord, PolicyScorer

SCORER = "safetensors"  # may be named, and changes nothing
FORMATS: dict[str, str] = {
    "onnx": "recomind.export.onnx.format.FORMAT",
    "onnx_fp16": "recomind.export.onnx.reduced.FP16",
    "onnx_int8": "recomind.export.onnx.reduced.INT8",
    "triton": "recomind.export.triton.FORMAT",
    "torch_export": "recomind.export.torch_export.FORMAT",
    "ranker": "recomind.export.ranker.FORMAT",
    "torch_module": "recomind.export.torch_module.FORMAT",
}
_TRACED = ("none", "torch", "torchscript", "onnx")
# Kinds of `ranker.external` that a format can hold, where it is not every kind.
RANKER_KINDS: dict[str, tuple[str, ...]] = {
    "onnx_fp16": _TRACED,
    "onnx_int8": _TRACED,
    "triton": _TRACED,
    "torch_export": ("none", "torch"),
    "ranker": ("none",),
    "torch_module": ("torch",),
}
_FOLDER = re.compile(r"[a-z][a-z0-9_]*")
_LESSONS = "lessons"  # in the job's cache
_TAKEN = ("external", "trial")  # folders of the scorer's own


@dataclass(kw_only=True, slots=True)
class ExportJob:
    """What a format is written from."""

    scorer: PolicyScorer  # with the trained network
    record: ExportRecord  # facts of the run
    golden: Golden  # requests, and the trained network's answers
    cache: dict[str, Any] = field(default_factory=dict)  # what formats share within one export
    lessons: Callable[[], Lessons] | None = None  # what the policy is distilled from, on request

    def lessons_for(self, name: str) -> Lessons:
        """The lessons, made once for all formats.

        Raises:
            ConfigError: the export was given none; `name` is the format that needs them.
        """
        if self.lessons is None:
            raise ConfigError(
                f"the format {name!r} distils the policy, and has nothing to distil it from",
                expected="lessons=... of export_and_verify: logged states and their pools",
                mend="`recomind export` brings those of the run",
            )
        if _LESSONS not in self.cache:
            self.cache[_LESSONS] = self.lessons()
        return self.cache[_LESSONS]


@runtime_checkable
class ExportFormat(Protocol):
    """A form in which a policy goes into production."""

    @property
    def name(self) -> str:
        """Name of its folder in the export: lower-case letters, digits and _."""
        ...

    def check_possible(self, scorer: PolicyScorer) -> None:
        """Raise ConfigError unless `scorer` can be written in this form, here.

        Called before anything is written.
        """
        ...

    def write(self, job: ExportJob, folder: Path) -> dict[str, Any]:
        """Write into the empty `folder`, and check what was written on the golden requests.

        Returns:
            An entry of the parity report, JSON-able; `passed` says whether the answers agree.
            Where it is not true the whole export fails and nothing is left.
        """
        ...


def format_target(name: str) -> str:
    """The dotted name of the format that a setting gives; empty for the scorer itself.

    Raises:
        ConfigError: it is neither in the table nor a dotted name.
    """
    if name == SCORER:
        return ""
    if name in FORMATS:
        return FORMATS[name]
    if "." not in name:
        known = [SCORER, *FORMATS]
        raise ConfigError(
            "export.formats",
            got=name,
            expected=f"names among {known}, or a dotted name such as my_shop.formats.FORMAT",
            mend=did_you_mean(name, known),
        )
    return name


def make_formats(names: Sequence[str], allowed_targets: Iterable[str] = ()) -> list[ExportFormat]:
    """The formats that `export.formats` names, without the scorer itself.

    Raises:
        ConfigError: an unknown name, one outside the allowed prefixes, an object that is no
            `ExportFormat`, or two that would write into one folder.
    """
    targets = [target for name in names if (target := format_target(name))]
    found = [_format(target, tuple(allowed_targets)) for target in targets]
    folders = [each.name for each in found]
    if len(set(folders)) < len(folders):
        raise ConfigError("two export formats write into one folder", got=folders)
    return found


def _format(target: str, allowed: tuple[str, ...]) -> ExportFormat:
    made = resolve(target, setting="export.formats", also=allowed)
    if isinstance(made, type) or not isinstance(made, ExportFormat):
        raise ConfigError(
            "export.formats names no export format",
            got=f"{target}: {made!r}",
            expected="an object with `name`, `check_possible` and `write`: "
            "see recomind.export.formats.ExportFormat",
        )
    if not _FOLDER.fullmatch(made.name) or made.name in _TAKEN:
        raise ConfigError(
            "the name of an export format is that of a folder",
            got=made.name,
            expected=f"lower-case letters, digits and _, and none of {', '.join(_TAKEN)}",
        )
    return made


def write_formats(
    formats: Sequence[ExportFormat], job: ExportJob, staging: Path
) -> dict[str, dict[str, Any]]:
    """Write each format into a folder of its own below `staging`; returns their parity entries.

    Raises:
        ParityError: a format's answers are not those of the trained network.
    """
    entries = {}
    for each in formats:
        folder = staging / each.name
        folder.mkdir()
        entries[each.name] = each.write(job, folder)
        if entries[each.name].get("passed") is not True:
            raise ParityError(
                f"the export format {each.name!r} does not answer as the trained network does",
                got=entries[each.name],
                mend=f"export without it: leave {each.name!r} out of export.formats",
            )
    return entries
