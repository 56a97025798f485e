"""Entry of the SfM child process: `python -m deblurgs.sfm.worker REQUEST.json RESULT.json`.

The request names a job and its arguments; the result is a JSON object, or {"error": {"kind", "text"}}. What COLMAP
prints goes to stderr, which the parent keeps in sfm.log.
"""

import errno
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deblurgs.errors import DeblurgsError, ResourceError
from deblurgs.sfm.process import SAY_PREFIX

_DISK_CODES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DISK_WORDS = ("disk is full", "no space left", "disk i/o error", "file too large")
_MEMORY_WORDS = ("bad_alloc", "cannot allocate memory", "out of memory")


def main(argv: list[str]) -> int:
    """Run one job; 0 when a result was written, 1 when an explained or unexpected error was."""
    request_path, result_path = Path(argv[0]), Path(argv[1])
    _end_with_parent()
    code = 0
    try:
        request = json.loads(request_path.read_text(encoding="utf-8"))
        _limit_memory(request.get("memory_limit_mb"))
        result = _job(request["job"])(request, say)
    except DeblurgsError as error:
        result, code = _error(type(error).__name__, str(error)), 1
    except MemoryError:
        result, code = _error("ResourceError", _MEMORY_TEXT), 1
    except Exception as error:
        traceback.print_exc()
        kind, text = _classify(error)
        result, code = _error(kind, text), 1
    temporary = result_path.with_name(f".{result_path.name}.tmp")
    temporary.write_text(json.dumps(result), encoding="utf-8")
    temporary.replace(result_path)
    return code


def say(text: str) -> None:
    """Show one line to the user, through the parent."""
    print(f"{SAY_PREFIX}{text}", flush=True)


_MEMORY_TEXT = (
    "SfM ran out of memory. Use fewer or smaller frames (max_image_size), or close other programs. Features "
    "already found are reused on the next try."
)


def _job(name: str) -> Callable[[dict[str, Any], Callable[[str], None]], dict[str, Any]]:
    # Imported here so that an import failure of pycolmap is reported like every other error.
    from deblurgs.sfm import jobs

    table = {
        "sfm": jobs.sfm,
        "given_model": jobs.given_model,
        "given_poses": jobs.given_poses,
        "views": jobs.views,
        "register": jobs.register,
        "register_to_renders": jobs.register_to_renders,
        "undistort": jobs.undistort_images,
    }
    return table[name]


def _error(kind: str, text: str) -> dict[str, Any]:
    return {"error": {"kind": kind, "text": text}}


def _classify(error: Exception) -> tuple[str, str]:
    text = " ".join(str(error).split())[:500]
    if (isinstance(error, OSError) and error.errno in _DISK_CODES) or any(
        w in text.lower() for w in _DISK_WORDS
    ):
        return (
            ResourceError.__name__,
            f"The disk is full or a file may not grow further ({text}). Free space, then retry.",
        )
    if any(w in text.lower() for w in _MEMORY_WORDS):
        return ResourceError.__name__, _MEMORY_TEXT
    return type(error).__name__, f"{type(error).__name__}: {text}."


def _limit_memory(megabytes: int | None) -> None:
    """Turn a flood of memory into an error of this process instead of one of the whole machine."""
    if megabytes is None:
        return
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


def _end_with_parent() -> None:
    """End when the parent is gone without having killed us (it was killed with SIGKILL)."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
