"""One typed error for whatever a damaged or foreign file makes a reader raise."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from recomind.errors import ArtifactError, RecomindError

Parameters = ParamSpec("Parameters")
Loaded = TypeVar("Loaded")
_LONGEST = 200  # characters of somebody else's message


def brief(error: BaseException) -> str:
    """The first words of an error's message: readers quote megabytes of what they were given.

    >>> brief(ValueError("a" * 1000))[-3:]
    '...'
    """
    lines = str(error)[: 10 * _LONGEST].strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


@contextmanager
def reading(what: str, place: object, mend: str = "") -> Iterator[None]:
    """Turn what a reader raises on bad content into an ArtifactError.

    A reader meets content that its author never thought of, and says so by any exception there
    is; polars and safetensors, which are written in Rust, by a panic beside `Exception`.

    Args:
        what: is read, such as "ranker".
        place: its folder or file.
        mend: what the user can do.

    Raises:
        ArtifactError: the block raised; errors that are typed already stay as they are.
    """
    try:
        yield
    except RecomindError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ArtifactError(
            f"unreadable {what}", got=f"{place}: {type(error).__name__}: {brief(error)}", mend=mend
        ) from error


def loads(
    what: str, mend: str = ""
) -> Callable[[Callable[Parameters, Loaded]], Callable[Parameters, Loaded]]:
    """Decorate a loader with `reading`; its first path, or list of paths, is the place."""

    def decorate(loader: Callable[Parameters, Loaded]) -> Callable[Parameters, Loaded]:
        @functools.wraps(loader)
        def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Loaded:
            places = [a for a in (*args, *kwargs.values()) if isinstance(a, (str, Path, list))]
            with reading(what, places[0] if places else "", mend):
                return loader(*args, **kwargs)

        return checked

    return decorate
