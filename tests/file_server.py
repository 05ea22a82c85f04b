"""A file server on loopback for tests of downloads: with ranges or without, and with the faults of real servers."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator


class FileServer:
    """What a server offers, how it fails, and in `asked` the Range of each request.

    `cut` is a list: each answer takes the first number as the bytes after which it closes the connection. `status` is
    such a list of status codes of refusals. With `stall` it sends so many bytes, and then nothing.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.ranges = True
        self.says_length = True
        self.cut: list[int] = []
        self.status: list[int] = []
        self.stall: int | None = None
        self.asked: list[str | None] = []
        self.url = ""


@contextlib.contextmanager
def serve(files: dict[str, bytes]) -> Iterator[FileServer]:
    """Serve `files`, by name, at `url` until the end of the block."""
    offer = FileServer(files)
    finished = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            offer.asked.append(wanted)
            if offer.status:
                self.send_error(offer.status.pop(0))
                return
            data = offer.files.get(self.path.removeprefix("/"))
            if data is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and offer.ranges else 0
            if start >= len(data) and start:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            if offer.says_length:
                self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            stop = start + offer.cut.pop(0) if offer.cut else None
            self.wfile.write(data[start : stop if offer.stall is None else start + offer.stall])
            while offer.stall is not None and not finished.wait(0.01):
                pass

        def log_message(self, *_: object) -> None:
            """Write nothing to stderr."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Write nothing to stderr when a client is gone."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    host, port = server.server_address[:2]
    offer.url = f"http://{host!s}:{port}"
    try:
        yield offer
    finally:
        finished.set()
        server.shutdown()
        thread.join()
        server.server_close()
