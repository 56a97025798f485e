"""Unpacking an archive that comes from others: only ordinary files, only below one folder, never more than agreed."""

import itertools
import lzma
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from deblurgs.errors import CaptureError
from deblurgs.files import explained_write_errors, require_free_space

MAX_BYTES = 16 * 2**30
MAX_RATIO = 100
MAX_MEMBERS = 100_000
MAX_NAME = 1000
"""Characters, folders included. Longer ones are refused by some systems, and are no photo's."""
_DAMAGE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError,
    IndexError,  # a member without a name
)  # fmt: skip
_SMALL = 2**20
"""Below this size a member may be packed as tightly as it likes."""


def unpack(path: Path, target: Path) -> None:
    """Unpack the zip file `path` into the new folder `target`.

    Raises CaptureError, before anything is written, for a damaged archive, one with encrypted members, links, absolute
    paths or `..`, or one that would grow beyond all measure; ResourceError when the disk is full.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir() and not _junk(m.filename)]
            _check(path, members)
            require_free_space(target, sum(m.file_size for m in members), f"unpacking {path.name}")
            for member in members:
                place = target.joinpath(*PurePosixPath(member.filename.replace("\\", "/")).parts)
                with explained_write_errors(place):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    file = place.open("xb")
                with file, _opened(archive, member) as packed:
                    # The size in the header is only a claim, but no more than that is ever taken.
                    while block := _read(packed):
                        with explained_write_errors(place):
                            file.write(block)
    except _DAMAGE as error:
        raise CaptureError(f"the archive {path} is damaged ({error}); export it again") from error
    except RuntimeError as error:  # encrypted
        raise CaptureError(f"the archive {path} cannot be unpacked ({error})") from error


def _opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    try:
        return archive.open(member)
    except OSError as error:  # a place before the start of the file
        raise zipfile.BadZipFile(str(error)) from error


def _read(packed: IO[bytes]) -> bytes:
    try:
        return packed.read(2**20)
    except OSError as error:  # bzip2's way of saying that its data is damaged
        raise zipfile.BadZipFile(str(error)) from error


def _junk(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in parts)


def _check(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if not members:
        raise CaptureError(f"the archive {path} is empty")
    total = sum(m.file_size for m in members)
    if total > MAX_BYTES or len(members) > MAX_MEMBERS:
        raise CaptureError(
            f"the archive {path} would unpack to {len(members)} files of {total / 2**30:.1f} GB, more than the limit "
            f"of {MAX_MEMBERS} files and {MAX_BYTES / 2**30:.0f} GB; unpack it yourself and give the folder"
        )
    seen: set[PurePosixPath] = set()
    for member in members:
        if len(member.filename) > MAX_NAME:
            raise CaptureError(f"the archive {path} holds a name of {len(member.filename)} characters")
        pure = PurePosixPath(member.filename.replace("\\", "/"))
        if (
            not pure.parts
            or pure.is_absolute()
            or ".." in pure.parts
            or ":" in pure.parts[0]
            or "\0" in member.filename
        ):
            raise CaptureError(f"the archive {path} holds {member.filename[:100]!r}, which leaves its folder")
        if pure in seen:
            raise CaptureError(f"the archive {path} holds {member.filename[:100]!r} twice")
        seen.add(pure)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise CaptureError(
                f"the archive {path} holds the link {member.filename[:100]!r}; only files are taken"
            )
        if member.file_size > max(_SMALL, MAX_RATIO * max(member.compress_size, 1)):
            raise CaptureError(
                f"the archive {path} holds {member.filename[:100]!r}, which is packed more than {MAX_RATIO} to one: it "
                "is not a capture"
            )
    # In this order a file that is a folder, too, is followed by what lies in it.
    for first, second in itertools.pairwise(sorted(pure.parts for pure in seen)):
        if second[: len(first)] == first:
            raise CaptureError(
                f"the archive {path} holds {'/'.join(first)[:100]!r} as a file and as a folder"
            )
