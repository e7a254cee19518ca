"""Ask an HTTP service whether it is well: `python -IS health.py HOST:PORT/PATH`; exit 0, or 1 and why.

It is run every few seconds for as long as a container lives, and importing an HTTP client would be
most of what it costs. `{me}` in the path stands for this container.
"""

import socket
import sys

host, _, rest = sys.argv[1].partition(":")
port, _, path = rest.partition("/")
path = path.replace("{me}", socket.gethostname())
try:
    with socket.create_connection((host, int(port)), timeout=4) as connection:
        connection.sendall(f"GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        status = connection.makefile("rb").readline().decode("latin-1").strip()
except OSError as error:
    status = str(error)
print(status)
sys.exit(" 200" not in status)
