"""SPZ, the compressed splat file of Niantic (github.com/nianticlabs/spz, README "File Format"): about a tenth of a PLY.

Version 3 is one gzip stream: a 16-byte header and six arrays one after the other. Version 4 is a plain 32-byte header,
a table of contents, and the same six arrays as zstd streams of their own. Axes are RUB (+y up, +z back), ours RDF, so y
and z change sign. Positions are 24-bit fixed point, scales and colours 8 bits, quaternions the smallest three of their
components at 10 bits each, SH coefficients 5 bits (degree 1) and 4 bits.
"""

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deblurgs.errors import CaptureError, UsageError
from deblurgs.export.ply import SplatArrays
from deblurgs.files import write_bytes_atomic

SpzVersion = Literal[3, 4]

_MAGIC = 0x5053474E
_HEADER_3 = struct.Struct("<IIIBBBB")
_HEADER_4 = struct.Struct("<IIIBBBBI12x")
_ANTIALIASED = 1
_COLOR_SCALE = 0.15
"""Of the constant SH coefficient; smaller than Y_00 so that colours beyond white keep their place."""
_SH_STEPS = (8, 16, 16)
"""Quantisation step of degree 1, 2, 3 in units of 1/128."""
_FLIP_SH = np.array([-1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1], np.float32)
"""Signs of the basis functions (math/sh.py) of degree 1 to 3 when y and z change sign."""
_RATIO = 1100
"""Nothing that gzip or zstd packed can unpack to more than this many times its size: a larger claim is an attack."""


@dataclass(frozen=True)
class _Streams:
    """The six arrays as bytes in file order, and what the header says."""

    num_points: int
    sh_degree: int
    fractional_bits: int
    flags: int
    parts: list[bytes]


def write_spz(path: Path, arrays: SplatArrays, *, version: SpzVersion = 3, overwrite: bool = True) -> int:
    """Write an SPZ file; returns how many Gaussians were left out because a value is NaN or infinite.

    Raises UsageError when version 4 is asked for and the package `zstandard` is missing, ValueError when a mean lies
    too far away for 24 bits.
    """
    kept = arrays.finite()
    streams = _packed(kept)
    head = (streams.num_points, streams.sh_degree, streams.fractional_bits, streams.flags)
    if version == 3:
        body = _HEADER_3.pack(_MAGIC, 3, *head, 0) + b"".join(streams.parts)
        # mtime 0: the same scene gives the same file.
        data = gzip.compress(body, 9, mtime=0)
    else:
        zstd = _zstandard()
        # A scene without harmonics has five streams: the library of the format's makers refuses an empty sixth.
        parts = streams.parts if streams.sh_degree else streams.parts[:-1]
        packed = [zstd.ZstdCompressor(level=12).compress(part) for part in parts]
        sizes = b"".join(struct.pack("<QQ", len(c), len(p)) for c, p in zip(packed, parts, strict=True))
        data = _HEADER_4.pack(_MAGIC, 4, *head, len(packed), _HEADER_4.size) + sizes + b"".join(packed)
    write_bytes_atomic(path, data, overwrite=overwrite)
    return len(arrays) - len(kept)


def read_spz(path: Path) -> SplatArrays:
    """Read an SPZ file of version 2, 3 or 4. Raises CaptureError that names the file and what is wrong with it."""
    data = path.read_bytes()
    try:
        streams, version = _unpacked_4(data) if data[:4] == b"NGSP" else _unpacked_gzip(data)
        return _splats(streams, version)
    except (ValueError, struct.error, zlib.error, EOFError, OSError) as error:
        raise CaptureError(f"{path} is not an SPZ file that can be read: {error}") from error


def _packed(arrays: SplatArrays) -> _Streams:
    reach = float(np.abs(arrays.means).max(initial=0.0))
    # 12 bits are usual (quarter millimetres in metres); the unit of our world is unknown, so take what fits.
    bits = 16
    while bits and reach * 2**bits >= 2**23 - 1:
        bits -= 1
    if reach * 2**bits >= 2**23 - 1:
        raise ValueError(f"a Gaussian lies {reach:g} away; SPZ cannot store that. Export ply instead.")
    flip = np.array([1, -1, -1], np.float32)
    fixed = np.round(arrays.means.astype(np.float64) * flip * 2**bits).astype("<i4")
    positions = fixed[..., None].view(np.uint8).reshape(-1, 3, 4)[..., :3]
    degree = arrays.sh_degree
    sh = arrays.shN * _FLIP_SH[: arrays.shN.shape[1], None]
    parts = [
        positions.tobytes(),
        _bytes(255.0 / (1.0 + np.exp(-arrays.logit_opacities))),
        _bytes(arrays.sh0 * (_COLOR_SCALE * 255.0) + 127.5),
        _bytes((arrays.log_scales + 10.0) * 16.0),
        _smallest_three(_flipped(arrays.quats_wxyz)),
        _quantised_sh(sh),
    ]
    return _Streams(len(arrays), degree, bits, _ANTIALIASED if arrays.antialiased else 0, parts)


def _bytes(values: NDArray[np.floating]) -> bytes:
    return np.clip(np.round(values), 0, 255).astype(np.uint8).tobytes()


def _flipped(quats_wxyz: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same rotation seen from axes with y and z reversed, unit length; wxyz."""
    length = np.linalg.norm(quats_wxyz, axis=1, keepdims=True)
    unit = np.where(length > 0, quats_wxyz / np.where(length > 0, length, 1.0), [1.0, 0.0, 0.0, 0.0])
    return (unit * np.array([1, 1, -1, -1])).astype(np.float32)


def _smallest_three(wxyz: NDArray[np.float32]) -> bytes:
    """2 bits say which component of xyzw is largest, the others follow as sign and 9-bit magnitude over sqrt(1/2)."""
    xyzw = wxyz[:, [1, 2, 3, 0]].astype(np.float64)
    n = len(xyzw)
    largest = np.abs(xyzw).argmax(axis=1)
    negate = xyzw[np.arange(n), largest] < 0
    word = largest.astype(np.uint32)
    magnitude = np.minimum(np.floor(511.0 * np.abs(xyzw) * np.sqrt(2.0) + 0.5), 511).astype(np.uint32)
    for i in range(4):
        sign = ((xyzw[:, i] < 0) ^ negate).astype(np.uint32)
        word = np.where(largest == i, word, (word << 10) | (sign << 9) | magnitude[:, i])
    return word.astype("<u4").tobytes()


def _from_smallest_three(data: bytes) -> NDArray[np.float32]:
    """-> wxyz [N,4], unit length."""
    word = np.frombuffer(data, "<u4").copy()
    largest = (word >> 30).astype(np.int64)
    xyzw = np.zeros((len(word), 4))
    for i in (3, 2, 1, 0):
        other = largest != i
        value = (word & 511) / 511.0 * np.sqrt(0.5) * np.where(word & 512, -1.0, 1.0)
        xyzw[:, i] = np.where(other, value, 0.0)
        word = np.where(other, word >> 10, word)
    rest = np.sqrt(np.maximum(0.0, 1.0 - (xyzw**2).sum(axis=1)))
    xyzw[np.arange(len(word)), largest] = rest
    return xyzw[:, [3, 0, 1, 2]].astype(np.float32)


def _quantised_sh(sh: NDArray[np.float32]) -> bytes:
    """[N,K-1,3] -> bytes, colour innermost; rounded to the middle of a step so that zero stays zero."""
    step = np.concatenate([np.full(2 * d + 3, s) for d, s in enumerate(_SH_STEPS)] or [np.zeros(0)])[
        : sh.shape[1], None
    ]
    level = np.round(sh * 128.0) + 128.0
    return np.clip(np.floor((level + step / 2) / step) * step, 0, 255).astype(np.uint8).tobytes()


def _unpacked_gzip(data: bytes) -> tuple[_Streams, int]:
    limit = len(data) * _RATIO + 64
    unzip = zlib.decompressobj(31)
    body = unzip.decompress(data, limit)
    if not unzip.eof:
        raise ValueError("the gzip stream is cut off or claims an impossible size")
    magic, version, count, degree, bits, flags, _ = _HEADER_3.unpack_from(body)
    if magic != _MAGIC or version not in (2, 3):
        raise ValueError(f"version {version}; versions 2, 3 and 4 can be read")
    sizes = _sizes(count, degree, version)
    if len(body) < _HEADER_3.size + sum(sizes):
        raise ValueError(f"{count} Gaussians are promised, the data end before")
    parts, at = [], _HEADER_3.size
    for size in sizes:
        parts.append(body[at : at + size])
        at += size
    return _Streams(count, degree, bits, flags, parts), version


def _unpacked_4(data: bytes) -> tuple[_Streams, int]:
    magic, version, count, degree, bits, flags, num_streams, toc = _HEADER_4.unpack_from(data)
    if magic != _MAGIC or version != 4:
        raise ValueError(f"version {version}; versions 2, 3 and 4 can be read")
    sizes = _sizes(count, degree, version)
    if not degree and num_streams == 5:
        sizes.pop()
    if num_streams != len(sizes) or toc < _HEADER_4.size or toc + 16 * num_streams > len(data):
        raise ValueError("its table of contents is damaged")
    if sum(sizes) > len(data) * _RATIO + 64:
        raise ValueError(f"it claims {count} Gaussians in {len(data)} bytes")
    zstd = _zstandard()
    parts, at = [], toc + 16 * num_streams
    for i, size in enumerate(sizes):
        packed, plain = struct.unpack_from("<QQ", data, toc + 16 * i)
        if plain != size or at + packed > len(data):
            raise ValueError(f"stream {i} does not have the size it should have")
        try:
            # Memory for what the frame claims is taken before anything is unpacked.
            if zstd.frame_content_size(data[at : at + packed]) not in (-1, size):
                raise ValueError(f"stream {i} claims another size than it should have")
            part = zstd.ZstdDecompressor().decompress(data[at : at + packed], max_output_size=size)
        except zstd.ZstdError as error:
            raise ValueError(f"stream {i} is damaged: {error}") from error
        if len(part) != size:
            raise ValueError(f"stream {i} is shorter than promised")
        parts.append(part)
        at += packed
    if len(parts) == 5:
        parts.append(b"")
    return _Streams(count, degree, bits, flags, parts), version


def _sizes(count: int, degree: int, version: int) -> list[int]:
    if not 0 <= degree <= 3:
        raise ValueError(f"SH degree {degree}; 0 to 3 can be read")
    rest = (degree + 1) ** 2 - 1
    return [9 * count, count, 3 * count, 3 * count, (3 if version == 2 else 4) * count, 3 * rest * count]


def _splats(streams: _Streams, version: int) -> SplatArrays:
    n, rest = streams.num_points, (streams.sh_degree + 1) ** 2 - 1
    positions, alphas, colors, scales, rotations, sh = streams.parts
    padded = np.zeros((n, 3, 4), np.uint8)
    padded[..., 1:] = np.frombuffer(positions, np.uint8).reshape(n, 3, 3)
    # The 24 bits stand at the top of the word, so that the shift back down keeps the sign.
    fixed = padded.view("<i4")[..., 0] >> 8
    opacity = np.clip(_floats(alphas) / 255.0, 1e-4, 1.0 - 1e-4)
    quats = _from_smallest_three(rotations) if version > 2 else _from_first_three(rotations)
    sh_values = (_floats(sh).reshape(n, rest, 3) - 128.0) / 128.0
    return SplatArrays(
        means=(fixed / 2.0**streams.fractional_bits * [1, -1, -1]).astype(np.float32),
        quats_wxyz=quats * np.array([1, 1, -1, -1], np.float32),
        log_scales=_floats(scales).reshape(n, 3) / 16.0 - 10.0,
        logit_opacities=np.log(opacity / (1.0 - opacity)),
        sh0=(_floats(colors).reshape(n, 3) / 255.0 - 0.5) / np.float32(_COLOR_SCALE),
        shN=sh_values * _FLIP_SH[:rest, None],
        antialiased=bool(streams.flags & _ANTIALIASED),
    )


def _from_first_three(data: bytes) -> NDArray[np.float32]:
    """Version 2: x, y, z at 8 bits each, w follows from the length. -> wxyz [N,4]."""
    xyz = _floats(data).reshape(-1, 3) / 127.5 - 1.0
    w = np.sqrt(np.maximum(0.0, 1.0 - (xyz**2).sum(axis=1, keepdims=True)))
    return np.concatenate([w, xyz], axis=1).astype(np.float32)


def _floats(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, np.uint8).astype(np.float32)


def _zstandard():
    try:
        import zstandard
    except ImportError as error:
        raise UsageError(
            "SPZ version 4 needs the package zstandard:  pip install 'deblurgs[spz4]'. Version 3 needs nothing."
        ) from error
    return zstandard
