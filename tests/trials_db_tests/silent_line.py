"""A line to a server that can fall silent: nothing comes through, and nothing is closed, as when a cable is cut."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class SilentLine:
    """Listens on a port of this machine and passes on what it hears.

    What is sent while it is cut arrives when it is mended, also where the sender has given up meanwhile.

    Args:
        url: Of the server.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._is_whole = threading.Event()
        self._is_whole.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]

    @property
    def url(self) -> str:
        """The server as one sees it through the line."""
        return urlunsplit(self._parts._replace(netloc=f"127.0.0.1:{self._listener.getsockname()[1]}"))

    def cut(self) -> None:
        self._is_whole.clear()

    def mend(self) -> None:
        self._is_whole.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._is_whole.set()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection((self._parts.hostname, self._parts.port))
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._is_whole.wait()
                sink.sendall(data)
            self._is_whole.wait()
            sink.shutdown(socket.SHUT_WR)
