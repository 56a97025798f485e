"""The error tree. Every message says what happened, to which file, why, and what to do next.

Exit codes: 0 done, 1 bug, 2 usage, 3 input unusable, 4 SfM failed, 5 out of resources, 130 interrupted.
"""


class DeblurgsError(Exception):
    """Base of all errors that are explained to the user in one message instead of a traceback."""

    exit_code = 1


class UsageError(DeblurgsError):
    """The command line asks for something impossible (wrong flag, output exists, run folder locked)."""

    exit_code = 2


class CaptureError(DeblurgsError):
    """The user's input cannot be used: unreadable, too few frames, wrong kind of file."""

    exit_code = 3


class TooFewFramesError(CaptureError):
    """The input is fine, but too little of it for 3-D: one photo, or fewer usable frames than a scene needs."""


class SfmError(DeblurgsError):
    """No trustworthy camera poses could be found for the frames."""

    exit_code = 4


class ResourceError(DeblurgsError):
    """Disk, memory or another resource ran out. What was already written is kept."""

    exit_code = 5


class DivergedError(DeblurgsError):
    """The optimisation produced non-finite numbers repeatedly and was stopped."""

    exit_code = 1


class DeviceError(DeblurgsError):
    """A GPU, its driver or a kernel refused."""

    exit_code = 5


EXIT_INTERRUPTED = 130
