"""Thrift's compact protocol, which Parquet's footers and page headers are written in.

pyarrow reads them too, but ends the process where a statistic of a column contradicts its schema:
`RowGroupMetaData.column` lets a C++ exception escape (26.0.1). What is read here is Python's own.

The format: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

import struct
from mmap import mmap
from typing import Any

_DEEPEST = 32  # structs in each other; Parquet's own have six
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_WHOLE = (4, 5, 6)  # int16, int32 and int64: zigzag varints
Struct = dict[int, Any]  # by the number of the field


def read_struct(content: bytes | mmap, begin: int, end: int) -> tuple[Struct, int]:
    """The struct that begins at byte `begin` of `content`, and where it ends.

    Args:
        content: of the file.
        begin: of the struct.
        end: what it may not reach beyond.

    Raises:
        ValueError: no struct, or one that is cut short.

    >>> read_struct(bytes([0x15, 0x54, 0x18, 0x01, 0x61, 0x00]), 0, 6)
    ({1: 42, 2: b'a'}, 6)
    """
    reader = _Reader(content, begin, end)
    return reader.struct(0), reader.at


class _Reader:
    def __init__(self, content: bytes | mmap, at: int, end: int) -> None:
        self.content, self.at, self.end = content, at, end

    def struct(self, depth: int) -> Struct:
        if depth > _DEEPEST:
            raise ValueError("structs that lie too deep in each other")
        found: Struct = {}
        field = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            field = field + step if step else self._whole()
            found[field] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _WHOLE:
            return self._whole()
        if kind == _BINARY:
            return self._take(self._varint())
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth + 1)
        if kind == _DOUBLE:
            return struct.unpack("<d", self._take(8))[0]
        if kind in (_TRUE, _FALSE, _BYTE):  # in a list, a truth is a byte
            return self._byte()
        raise ValueError(f"a value of type {kind}, which no Parquet file has")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        num, kind = head >> 4, head & 15
        num = self._varint() if num == 15 else num
        if num > self.end - self.at or depth > _DEEPEST:  # each takes a byte, at least
            raise ValueError(f"a list of {num} in {self.end - self.at} bytes")
        return [self._value(kind, depth) for _ in range(num)]

    def _byte(self) -> int:
        if self.at >= self.end:
            raise ValueError("a struct that is cut short")
        self.at += 1
        return self.content[self.at - 1]

    def _take(self, num: int) -> bytes:
        if num > self.end - self.at:
            raise ValueError(f"{num} bytes where {self.end - self.at} are left")
        self.at += num
        return bytes(self.content[self.at - num : self.at])

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("an integer of more than 64 bits")

    def _whole(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
