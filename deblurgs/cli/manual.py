"""The manual page of a command is its docstring: the first paragraph stands above the options, the rest below them.

Below, because there the examples are in sight when a long list of options has scrolled by.
"""

import inspect
import shutil
import textwrap

MAX_WIDTH = 100

INTRODUCTION = """Sharp frames, sharp video and a splat file from blurry hand-held footage.

Begin with `deblurgs demo`, or with `deblurgs run clip.mp4`, which does the whole job. `deblurgs COMMAND --help`
explains a command, `deblurgs doctor` looks at this machine, and `deblurgs --version` prints the version.

Exit codes:
    0  done                               4  no camera poses could be found
    1  a bug, or doctor found a problem   5  out of disk, memory or GPU
    2  wrong usage                      130  interrupted
    3  the input cannot be used"""


def summary(text: str | None) -> str:
    """The first paragraph of a docstring."""
    return inspect.cleandoc(text or "").partition("\n\n")[0]


def details(text: str | None) -> str:
    """The other paragraphs, wrapped to the terminal; those with indented lines (examples) stay as they are."""
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    paragraphs = inspect.cleandoc(text or "").split("\n\n")[1:]
    return "\n\n".join(p if "\n " in p else textwrap.fill(p, width) for p in paragraphs)
