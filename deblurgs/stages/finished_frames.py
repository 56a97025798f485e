"""Which frames a rendering has finished, so that one that was killed goes on with the next frame."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from deblurgs.files import JsonLines, read_json_lines


class FinishedFrames:
    """A file of JSON lines: first what the pictures are made of, then a record per finished frame.

    inputs: the files that the pictures follow from; with other contents nothing counts as finished. The file is there
    only while the work is under way.
    """

    def __init__(self, path: Path, inputs: Sequence[Path]) -> None:
        digest = hashlib.sha256()
        for item in inputs:
            digest.update(item.read_bytes())
        self.path = path
        known = read_json_lines(path) if path.is_file() else []
        same = bool(known) and known[0].get("inputs") == digest.hexdigest()
        self.done: dict[str, bool] = {}
        if same:
            self.done = {str(r["name"]): bool(r.get("explained")) for r in known[1:] if "name" in r}
        self._lines = JsonLines(path, append=same)
        if not same:
            self._lines.write({"inputs": digest.hexdigest()})

    def add(self, name: str, explained: bool) -> None:
        """One frame's pictures are on the disk. explained: whether a path explains its blur."""
        self.done[name] = explained
        self._lines.write({"name": name, "explained": explained})

    def close(self, *, finished: bool) -> None:
        self._lines.close()
        if finished:
            self.path.unlink(missing_ok=True)
