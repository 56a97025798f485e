"""Unpacking an archive that comes from others: only ordinary files, only below one folder, never more than was agreed."""

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from deblurgs.errors import CaptureError
from deblurgs.files import explained_write_errors, require_free_space

MAX_BYTES = 16 * 2**30
MAX_RATIO = 100
MAX_MEMBERS = 100_000
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
                    with archive.open(member) as packed, place.open("xb") as file:
                        # The header's size is only a claim: no more than that is taken.
                        _copy(packed, file, member.file_size)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, zipfile.LargeZipFile) as error:
        raise CaptureError(f"the archive {path} is damaged ({error}); export it again") from error
    except RuntimeError as error:  # encrypted
        raise CaptureError(f"the archive {path} cannot be unpacked ({error})") from error


def _copy(packed: zipfile.ZipExtFile, file: object, size: int) -> None:
    shutil.copyfileobj(packed, file, 2**20)  # type: ignore[arg-type]  # ZipExtFile ends at the claimed size


def _junk(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in parts)


def _check(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if not members:
        raise CaptureError(f"the archive {path} is empty")
    total = sum(m.file_size for m in members)
    if total > MAX_BYTES or len(members) > MAX_MEMBERS:
        raise CaptureError(
            f"the archive {path} would unpack to {len(members)} files of {total / 2**30:.1f} GB, more than the limit of "
            f"{MAX_MEMBERS} files and {MAX_BYTES / 2**30:.0f} GB; unpack it yourself and give the folder"
        )
    for member in members:
        pure = PurePosixPath(member.filename.replace("\\", "/"))
        if pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0] or "\0" in member.filename:
            raise CaptureError(f"the archive {path} holds {member.filename[:100]!r}, which leaves its folder")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise CaptureError(
                f"the archive {path} holds the link {member.filename[:100]!r}; only files are taken"
            )
        if member.file_size > max(_SMALL, MAX_RATIO * max(member.compress_size, 1)):
            raise CaptureError(
                f"the archive {path} holds {member.filename[:100]!r}, which is packed more than {MAX_RATIO} to one: it "
                "is not a capture"
            )
