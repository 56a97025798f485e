"""Working through a large picture in tiles that overlap as far as the network looks: no seams, bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """One tile of a picture, as slices (rows, columns): `outer` is what the network sees, `inner` what it answers for,
    `kept` where the inner part lies within the outer one.
    """

    outer: tuple[slice, slice]
    inner: tuple[slice, slice]
    kept: tuple[slice, slice]


def tiles(height: int, width: int, side: int, reach: int) -> Iterator[Tile]:
    """Cover height x width by inner tiles of at most `side` pixels, each seen with `reach` more on every side.

    With `reach` at least as far as the network looks, the result equals the one of the whole picture at once.
    """
    for top in range(0, height, side):
        for left in range(0, width, side):
            spans = []
            for start, size in ((top, height), (left, width)):
                stop = min(start + side, size)
                first, last = max(0, start - reach), min(size, stop + reach)
                spans.append((slice(first, last), slice(start, stop), slice(start - first, stop - first)))
            rows, columns = spans
            yield Tile((rows[0], columns[0]), (rows[1], columns[1]), (rows[2], columns[2]))


def scaled_slices(slices: tuple[slice, slice], scale: int) -> tuple[slice, slice]:
    """The same part of the enlarged picture."""
    rows, columns = slices
    return slice(rows.start * scale, rows.stop * scale), slice(columns.start * scale, columns.stop * scale)
