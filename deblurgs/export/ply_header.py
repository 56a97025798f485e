"""The PLY container: header and vertex table, with every size checked before anything is allocated.

Format: Greg Turk, "The PLY Polygon File Format", 1994. Only scalar properties are decoded.
"""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from deblurgs.errors import CaptureError

Vertices = Mapping[str, NDArray[np.generic]]

_MAX_HEADER_BYTES = 64 * 1024
_MAX_PROPERTIES = 1024
_CODES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


@dataclass(frozen=True)
class PlyHeader:
    """What a reader of splats needs. `skip_bytes`/`skip_rows` is what lies before the vertex element."""

    encoding: str
    num_vertices: int
    properties: tuple[tuple[str, str], ...]
    antialiased: bool
    skip_bytes: int
    skip_rows: int

    def dtype(self) -> np.dtype[np.void]:
        """One vertex as a numpy structured type. Raises ValueError for names given twice."""
        order = _BYTE_ORDERS[self.encoding] or "="
        return np.dtype([(name, order + code) for name, code in self.properties])


@dataclass
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str]]
    has_list: bool = False


def read_header(file: BinaryIO, path: Path) -> PlyHeader:
    """Parse the header and leave `file` at the first byte of data. Raises CaptureError naming `path`."""
    lines = _header_lines(file, path)
    encoding = ""
    elements: list[_Element] = []
    antialiased = False
    for number, line in enumerate(lines[1:], start=2):
        words = line.split()
        match words:
            case []:
                continue
            case ["comment" | "obj_info", *rest]:
                antialiased = _render_mode(rest, antialiased)
            case ["format", name, "1.0"] if name in _BYTE_ORDERS:
                encoding = name
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 20:
                elements.append(_Element(name, int(count), []))
            case ["property", "list", _, _, _] if elements:
                elements[-1].has_list = True
            case ["property", kind, name] if elements and kind in _CODES:
                elements[-1].properties.append((name, _CODES[kind]))
            case _:
                raise CaptureError(f"{path}: line {number} of the PLY header makes no sense: {line[:80]!r}")
        if sum(len(element.properties) for element in elements) > _MAX_PROPERTIES:
            raise CaptureError(f"{path} declares more than {_MAX_PROPERTIES} properties: it is no splat file")
    if not encoding:
        raise CaptureError(f"{path} does not say which PLY format it has (ascii or binary)")
    return _header_from_elements(elements, encoding, antialiased, path)


def _header_lines(file: BinaryIO, path: Path) -> list[str]:
    start = file.read(_MAX_HEADER_BYTES)
    if start[:3] != b"ply" or start[3:4] not in (b"\n", b"\r"):
        raise CaptureError(f"{path} is not a PLY file: it does not start with the line 'ply'")
    position = 0
    lines: list[str] = []
    while True:
        end = start.find(b"\n", position)
        if end < 0:
            raise CaptureError(
                f"{path} has no end_header line within its first {len(start)} bytes: it is truncated "
                "or not a splat file"
            )
        # Messages quote header lines with repr(), so control characters of a hostile file stay harmless.
        lines.append(start[position:end].rstrip(b"\r").decode("ascii", "backslashreplace"))
        position = end + 1
        if lines[-1].strip() == "end_header":
            file.seek(position)
            return lines[:-1]


def _render_mode(words: list[str], antialiased: bool) -> bool:
    """Two programs' ways to say that opacities were trained with the compensation of a 2-D filter."""
    match [word.lower() for word in words]:
        case ["splatrendermode:", mode]:
            return mode == "mip"
        case ["antialiased", flag]:
            return flag in ("1", "true")
    return antialiased


def _header_from_elements(
    elements: list[_Element], encoding: str, antialiased: bool, path: Path
) -> PlyHeader:
    skip_bytes = skip_rows = 0
    for element in elements:
        if element.name == "vertex":
            if element.has_list:
                raise CaptureError(
                    f"{path}: its vertices have list properties; a splat file has only numbers"
                )
            header = PlyHeader(
                encoding, element.count, tuple(element.properties), antialiased, skip_bytes, skip_rows
            )
            if len({name for name, _ in header.properties}) != len(header.properties):
                raise CaptureError(f"{path} declares a vertex property twice")
            if not header.properties:
                raise CaptureError(f"{path}: its vertices have no properties")
            return header
        if element.has_list and element.count:
            raise CaptureError(f"{path}: lists of {element.name!r} before the vertices cannot be skipped")
        skip_bytes += element.count * sum(np.dtype(code).itemsize for _, code in element.properties)
        skip_rows += element.count
    raise CaptureError(f"{path} has no vertices: it is a PLY file but not a splat file")


def read_vertices(file: BinaryIO, header: PlyHeader, path: Path) -> Vertices:
    """The vertex table by property name; `file` stands behind the header.

    Raises CaptureError when the file is shorter than the header promises, before anything is allocated.
    """
    available = os.fstat(file.fileno()).st_size - file.tell()
    dtype = header.dtype()
    # In ASCII a number takes two bytes at least: a digit and its separator (the last one may lack it).
    if header.encoding == "ascii":
        needed = 2 * header.num_vertices * len(header.properties) - 1
        needed += 2 * header.skip_rows
    else:
        needed = header.skip_bytes + header.num_vertices * dtype.itemsize
    if needed > available:
        raise CaptureError(
            f"{path} is truncated: its header promises {header.num_vertices} splats ({needed} bytes), "
            f"but only {available} bytes follow"
        )
    if header.encoding == "ascii":
        return _ascii_vertices(file, header, path)
    file.seek(header.skip_bytes, os.SEEK_CUR)
    table = np.fromfile(file, dtype, header.num_vertices)
    if len(table) != header.num_vertices:
        raise CaptureError(f"{path} became shorter while it was read ({len(table)} splats)")
    return {name: table[name] for name in dtype.names or ()}


def _ascii_vertices(file: BinaryIO, header: PlyHeader, path: Path) -> Vertices:
    names = [name for name, _ in header.properties]
    if header.num_vertices == 0:
        return {name: np.zeros(0, np.float32) for name in names}
    text = io.TextIOWrapper(file, encoding="ascii", errors="replace")
    try:
        for _ in range(header.skip_rows):
            text.readline()
        # float32 keeps the table at most as large as twice the text; splat values are float32 anyway.
        table = np.loadtxt(text, np.float32, max_rows=header.num_vertices, ndmin=2, comments=None)
    except ValueError as error:
        raise CaptureError(f"{path}: its ASCII numbers cannot be read: {error}") from error
    finally:
        text.detach()
    if table.shape != (header.num_vertices, len(names)):
        raise CaptureError(
            f"{path} is truncated: {table.shape[0]} rows of {table.shape[1]} numbers where the header "
            f"promises {header.num_vertices} of {len(names)}"
        )
    return {name: table[:, column] for column, name in enumerate(names)}
