"""Callbacks that cannot do harm: what goes wrong in one is said in the browser and in the console, nothing ends."""

from collections.abc import Callable
from typing import Any

import viser

from deblurgs.log import Log


def safely(work: Callable[[], Any], log: Log, client: viser.ClientHandle | None = None) -> None:
    """Run `work`; report an error instead of raising it. Whoever calls may be the viewer's or the training's loop."""
    try:
        work()
    except Exception as error:
        text = str(error) or type(error).__name__
        log.warn(f"viewer: {text}")
        if client is not None:
            try:
                client.add_notification("This did not work", text, color="red", auto_close_seconds=8.0)
            except Exception as gone:  # the browser was closed meanwhile
                log.warn(f"viewer: {gone}")
