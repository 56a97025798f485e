"""Commands as they are shown to people: what is printed can be pasted into a shell, whatever a path is called."""

import shlex


def command_line(*words: object) -> str:
    """`deblurgs WORDS...`, quoted where a shell needs it."""
    return shlex.join(["deblurgs", *(str(word) for word in words)])
