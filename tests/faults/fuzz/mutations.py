"""Damage, as disks, networks, editors and malice make it; all of it from a seed."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

_NUMBERS = (0, 1, 0x7F, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_WORDS = (
    b"nan",
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"\xff\xfe",
    b"\r",
    b"\0",
    b"[[[[",
    b'"',
)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    2**70,
    -0.5,
    1e308,
    "",
    "x",
    "../x",
    [],
    {},
    [[]],
    {"a": 1},
    "9" * 400,
    ["x"] * 50,
    [None],
    [1e308, -1],
)


def mutated(content: bytes, draws: random.Random, *, is_json: bool = False) -> bytes:
    """`content` with one kind of damage; may by chance be what it was."""
    if is_json and draws.random() < 0.5:
        return mutated_json(content, draws)
    return draws.choice(_KINDS)(bytearray(content), draws)


def mutated_json(content: bytes, draws: random.Random) -> bytes:
    """JSON of another value, or without or with one more key, somewhere in the tree."""
    try:
        value = json.loads(content)
    except ValueError:
        return content
    return json.dumps(mutated_value(value, draws)).encode()


def mutated_value(value: Any, draws: random.Random) -> Any:
    """A copy of JSON values with something changed somewhere."""
    root = [copy.deepcopy(value)]
    place: Any = root
    key: Any = 0
    while isinstance(place[key], (dict, list)) and place[key] and draws.random() < 0.8:
        place = place[key]
        key = draws.choice(list(place) if isinstance(place, dict) else range(len(place)))
    what = draws.random()
    if what < 0.15 and place is not root:
        del place[key]
    elif what < 0.25 and isinstance(place, dict):
        place["more"] = draws.choice(_VALUES)
    else:
        place[key] = copy.deepcopy(draws.choice(_VALUES))
    return root[0]


def _place(content: bytearray, draws: random.Random) -> int:
    """Headers and ends are small, and most that matters is in them."""
    if not content:
        return 0
    where = draws.random()
    if where < 0.3:
        return draws.randrange(min(len(content), 256))
    if where < 0.5:
        return max(0, len(content) - 1 - draws.randrange(256))
    return draws.randrange(len(content))


def _flip(content: bytearray, draws: random.Random) -> bytes:
    for _ in range(draws.choice((1, 1, 1, 2, 8, 64)) if content else 0):
        content[_place(content, draws)] ^= 1 << draws.randrange(8)
    return bytes(content)


def _cut(content: bytearray, draws: random.Random) -> bytes:
    return bytes(content[: _place(content, draws)])


def _number(content: bytearray, draws: random.Random) -> bytes:
    at, width = _place(content, draws), draws.choice((1, 2, 4, 8))
    value = draws.choice(_NUMBERS) % 256**width
    content[at : at + width] = value.to_bytes(width, draws.choice(("little", "big")))
    return bytes(content)


def _word(content: bytearray, draws: random.Random) -> bytes:
    at, word = _place(content, draws), draws.choice(_WORDS)
    content[at : at + draws.choice((0, len(word)))] = word
    return bytes(content)


def _span(content: bytearray, draws: random.Random) -> tuple[int, int]:
    at = _place(content, draws)
    return at, min(len(content), at + draws.choice((1, 4, 16, 64, 512, 4096)))


def _drop(content: bytearray, draws: random.Random) -> bytes:
    at, end = _span(content, draws)
    del content[at:end]
    return bytes(content)


def _twice(content: bytearray, draws: random.Random) -> bytes:
    at, end = _span(content, draws)
    content[end:end] = content[at:end]
    return bytes(content)


def _fill(content: bytearray, draws: random.Random) -> bytes:
    at, end = _span(content, draws)
    content[at:end] = bytes([draws.choice((0, 0xFF, 0x20))]) * (end - at)
    return bytes(content)


def _noise(content: bytearray, draws: random.Random) -> bytes:
    at, end = _span(content, draws)
    content[at:end] = draws.randbytes(end - at)
    return bytes(content)


def _tail(content: bytearray, draws: random.Random) -> bytes:
    return bytes(content) + draws.randbytes(draws.choice((1, 8, 100)))


_KINDS = (_flip, _flip, _cut, _number, _number, _word, _drop, _twice, _fill, _noise, _tail)
