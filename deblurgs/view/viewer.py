"""The viewer: a guarded server, a canvas and a panel for every browser, one loop that serves them all."""

import threading
from typing import TYPE_CHECKING

import numpy as np
import viser

from deblurgs.export.ply import SplatArrays
from deblurgs.log import Log
from deblurgs.view.calls import safely
from deblurgs.view.canvas import Canvas
from deblurgs.view.guard import Guard, start_server
from deblurgs.view.pose import Array, View, up_direction
from deblurgs.view.splats import MAX_SPLATS, BrowserSplats, browser_splats

if TYPE_CHECKING:  # torch comes with them, and the first picture does not wait for it
    from deblurgs.view.content import Content
    from deblurgs.view.panel import Panel
    from deblurgs.view.pictures import Painter

TICK_S = 0.05
DEFAULT_PORT = 8080


class Viewer:
    """Open from construction to `close()`. Splats are shown before anything heavy is imported.

        viewer = Viewer(log=log)
        viewer.show_splats(arrays)
        viewer.set_content(Content(...))      # frames, true renders and the controls for them

    No error in a callback or in the loop ends anything: it is logged and shown in the browser.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        token: str | None = None,
        log: Log | None = None,
    ) -> None:
        self.log = log if log is not None else Log(quiet=True)
        self.host, self.token = host, token
        self.server = start_server(host, port, Guard(token))
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._splats: BrowserSplats | None = None
        self._content: Content | None = None
        self._painter: Painter | None = None
        self._canvases: dict[int, Canvas] = {}
        self._panels: dict[int, Panel] = {}
        self.server.on_client_connect(lambda client: safely(lambda: self._joined(client), self.log, client))
        self.server.on_client_disconnect(self._left)
        threading.Thread(target=self._serve, name="deblurgs-viewer", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that was really bound."""
        return self.server.get_port()

    @property
    def url(self) -> str:
        """What to open in the browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/" + (f"?t={self.token}" if self.token else "")

    @property
    def closed(self) -> bool:
        return self._closing.is_set()

    def show_splats(self, arrays: SplatArrays, max_splats: int = MAX_SPLATS) -> None:
        """What browsers draw by themselves; may be called again with a newer scene."""
        splats = browser_splats(arrays, max_splats=max_splats)
        note = splats.note()
        if note:
            self.log.warn(note)
        with self._lock:
            self._splats = splats
            for canvas in self._canvases.values():
                safely(lambda c=canvas: c.set_splats(splats), self.log)

    def start_at(self, view: View, camera_from_world: Array, depth: float) -> None:
        """Where new browsers begin, what is up, and how far things are (scene units)."""
        self.server.scene.set_up_direction(up_direction(camera_from_world))
        forward = view.camera_from_world()[2, :3]
        initial = self.server.initial_camera
        initial.position = np.asarray(view.position, np.float64)
        initial.look_at = view.position + depth * forward
        initial.fov, initial.near, initial.far = view.fov_y, 0.01 * depth, 1000.0 * depth

    def set_content(self, content: "Content") -> None:
        """Everything that needs the renderer: frames, paths, true renders, and the controls for them."""
        from deblurgs.view.pictures import Painter

        with self._lock:
            self._content, self._painter = content, Painter(content)
            for canvas in self._canvases.values():
                safely(lambda c=canvas: self._equip(c), self.log, canvas.client)

    def close(self) -> None:
        """Stop serving."""
        self._closing.set()
        self.server.stop()

    def _joined(self, client: viser.ClientHandle) -> None:
        with self._lock:
            canvas = self._canvases[client.client_id] = Canvas(client)
            if self._splats is not None:
                canvas.set_splats(self._splats)
            if self._content is not None:
                self._equip(canvas)

    def _equip(self, canvas: Canvas) -> None:
        from deblurgs.view.frames import add_frames
        from deblurgs.view.panel import Panel

        assert self._content is not None
        canvas.painter = self._painter
        panel = self._panels[canvas.client.client_id] = Panel(canvas, self._content, self.log)
        if self._content.frames is not None:
            client = canvas.client
            canvas.frustums = add_frames(
                client, self._content.frames, lambda f: safely(lambda: panel.select(f), self.log, client)
            )

    def _left(self, client: viser.ClientHandle) -> None:
        with self._lock:
            self._canvases.pop(client.client_id, None)
            self._panels.pop(client.client_id, None)

    def _serve(self) -> None:
        while not self._closing.wait(TICK_S):
            with self._lock:
                canvases = list(self._canvases.items())
            for client_id, canvas in canvases:
                safely(lambda i=client_id, c=canvas: self._tick(i, c), self.log, canvas.client)

    def _tick(self, client_id: int, canvas: Canvas) -> None:
        panel = self._panels.get(client_id)
        if panel is not None and canvas.left_frame():
            panel.back_to_scene()
        canvas.tick()
