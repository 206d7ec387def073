"""``python -m bench.server [PEM]``: listen on a free port of 127.0.0.1, print the URL, serve.

It ends when its standard input does.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading

from bench.server.service import Service
from bench.server.serving import Connection

BACKLOG = 512


def main() -> None:
    """Serve until somebody ends it; a thread each connection, since blocking reads cost least."""
    tls = None
    if len(sys.argv) > 1:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[1])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    service = Service()
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        scheme = "http" if tls is None else "https"
        sys.stdout.write(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            raw, _ = listener.accept()
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            work = Connection(raw, tls, service).serve
            threading.Thread(target=work, daemon=True).start()


def _end_with_parent() -> None:
    sys.stdin.read()  # nobody writes there: this returns when the other end is closed
    os._exit(0)


if __name__ == "__main__":
    main()
