"""Frame names: unique stems that are safe as file names on every system, made from the user's names."""

_MAX_STEM = 100
_UNSAFE = frozenset('/\\:*?"<>|')


class FrameNames:
    """Gives each photo its frame name: the user's file name where possible.

    Results are named after the stem, so `a.jpg` and `a.png` must differ in it; folders become part of the
    name, and control characters, separators, leading dots and dashes are replaced.
    """

    def __init__(self) -> None:
        self._stems: set[str] = set()

    def add(self, source: str) -> str:
        """The frame name for the file `source` (relative, with slashes)."""
        base = source.replace("/", "__")
        stem, dot, suffix = base.rpartition(".")
        if not dot:
            stem, suffix = base, "png"
        stem, suffix = _safe(stem), _safe(suffix)
        if stem.lower() in self._stems:
            stem = f"{stem}_{suffix.lower()}"
        unique, number = stem, 2
        while unique.lower() in self._stems:
            unique, number = f"{stem}_{number}", number + 1
        self._stems.add(unique.lower())
        return f"{unique}.{suffix}"


def _safe(text: str) -> str:
    clean = "".join(c if c.isprintable() and c not in _UNSAFE else "_" for c in text)[:_MAX_STEM]
    return "_" + clean[1:] if clean[:1] in (".", "-") else clean or "_"
