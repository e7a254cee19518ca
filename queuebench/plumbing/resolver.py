"""The addresses of a name, looked up within a time, which `getaddrinfo` itself knows nothing of."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

Addresses = list[tuple[Any, ...]]  # what getaddrinfo returns


class Resolver:
    """Looks up one host, once at a time: a name server that hangs costs one thread, however many wait."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._lock = threading.Lock()
        self._under_way: _Lookup | None = None

    def addresses(self, deadline: float) -> Addresses:
        """Return the host's addresses.

        Args:
            deadline: of the monotonic clock.

        Raises:
            OSError: there are none; TimeoutError, if nobody said so in time.
            UnicodeError: it can be no host's name.
        """
        with contextlib.suppress(OSError):
            return self._look_up(socket.AI_NUMERICHOST)  # asks nobody
        with self._lock:
            lookup = self._under_way
            if lookup is None:
                lookup = _Lookup()
                try:
                    threading.Thread(target=self._end, args=(lookup,), name="resolver", daemon=True).start()
                except RuntimeError as error:
                    raise OSError(str(error)) from None
                self._under_way = lookup
        if not lookup.ended.wait(max(0.0, deadline - time.monotonic())):
            raise TimeoutError("the name server does not answer")
        if lookup.failure is not None:
            raise type(lookup.failure)(*lookup.failure.args)
        return lookup.found

    def _end(self, lookup: _Lookup) -> None:
        try:
            lookup.found = self._look_up()
        except (OSError, UnicodeError) as error:
            lookup.failure = error
        finally:
            with self._lock:
                self._under_way = None
            lookup.ended.set()

    def _look_up(self, flags: int = 0) -> Addresses:
        return [*socket.getaddrinfo(self._host, self._port, 0, socket.SOCK_STREAM, 0, flags)]


class _Lookup:
    def __init__(self) -> None:
        self.ended = threading.Event()
        self.found: Addresses = []
        self.failure: OSError | UnicodeError | None = None
