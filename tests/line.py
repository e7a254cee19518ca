"""A proxy before a real server that does to connections what networks, load balancers and failovers do."""

from __future__ import annotations

import contextlib
import random
import socket
import threading

# What a Redis answers however its cluster is.
_ALWAYS_ANSWERED = {
    b"HELLO", b"AUTH", b"PING", b"CLIENT", b"SELECT", b"INFO", b"CONFIG", b"SCRIPT", b"COMMAND", b"ECHO",
    b"SUBSCRIBE", b"UNSUBSCRIBE", b"PSUBSCRIBE", b"PUNSUBSCRIBE", b"PUBLISH", b"UNWATCH", b"DISCARD",
}  # fmt: skip


class Line:
    """Passes bytes on, until it is told to cut, drop or swallow them.

    Args:
        port: of the server on 127.0.0.1; changed, it is where new connections go.
        splits: take what clients send apart into commands of Redis, so that `refusal` can be their answer.
    """

    def __init__(self, port: int, *, splits: bool = False) -> None:
        self.port, self._splits = port, splits
        self.cut_at: bytes | None = None
        self.cuts = 0
        self.refusal = b""  # the error that is the answer to every command with a key, in the server's place
        self.refusals = 0
        self.swallows_all = False  # new connections too
        self._pairs: list[_Pair] = []
        self._lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.listens_at = self.listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.listens_at}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def connections(self) -> int:
        """Count the connections that pass something on."""
        with self._lock:
            return sum(pair.alive and not pair.swallows for pair in self._pairs)

    def drop(self, chance: random.Random | None = None) -> int:
        """Close every connection, or one that `chance` picks; return how many."""
        with self._lock:
            alive = [pair for pair in self._pairs if pair.alive]
        if chance is not None and alive:
            alive = [chance.choice(alive)]
        for pair in alive:
            pair.end()
        return len(alive)

    def swallow(self, *, requests: bool = True, replies: bool = True) -> int:
        """Pass nothing on any more over the connections that there are, which stay open; return how many.

        Args:
            requests: swallow what clients send.
            replies: swallow what the server answers.
        """
        with self._lock:
            alive = [pair for pair in self._pairs if pair.alive and not pair.swallows]
            for pair in alive:
                pair.swallows = True
                pair.passes_requests, pair.passes_replies = not requests, not replies
        return len(alive)

    def close(self) -> None:
        """Accept no more, and close what there is."""
        self.listener.close()
        self.drop()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                try:
                    upstream = socket.create_connection(("127.0.0.1", self.port), timeout=5)
                    upstream.settimeout(None)
                except OSError:
                    client.close()
                    continue
                pair = _Pair(self, client, upstream)
                pair.swallows = self.swallows_all
                with self._lock:
                    self._pairs = [*(known for known in self._pairs if known.alive), pair]
                threading.Thread(target=pair.pass_requests, args=(self._splits,), daemon=True).start()
                threading.Thread(target=pair.pass_replies, daemon=True).start()


class _Pair:
    """One connection through a line: the client's half and the server's."""

    def __init__(self, line: Line, client: socket.socket, upstream: socket.socket) -> None:
        self._line, self._client, self._upstream = line, client, upstream
        self._in_transaction = False
        self.alive, self.swallows = True, False
        self.passes_requests = self.passes_replies = False  # where it swallows

    def pass_requests(self, splits: bool) -> None:
        commands = Commands()
        with contextlib.suppress(OSError):
            while data := self._client.recv(65536):
                if self.swallows and not self.passes_requests:
                    continue
                if not splits:
                    self._upstream.sendall(data)
                    continue
                passed = b""
                for command in commands.split(data):
                    if answer := self._refusal_of(command):
                        if passed:
                            self._upstream.sendall(passed)
                            passed = b""
                        self._client.sendall(answer)
                    else:
                        passed += command
                if passed:
                    self._upstream.sendall(passed)
        self._half_ended()

    def pass_replies(self) -> None:
        line = self._line
        with contextlib.suppress(OSError):
            while data := self._upstream.recv(65536):
                if self.swallows and not self.passes_replies:
                    continue
                if line.cut_at is not None and line.cut_at in data:
                    line.cut_at = None
                    line.cuts += 1
                    self._client.sendall(data[: len(data) // 2])
                    break
                self._client.sendall(data)
        self._half_ended()

    def end(self) -> None:
        self.alive = False
        for half in (self._client, self._upstream):
            with contextlib.suppress(OSError):
                half.shutdown(socket.SHUT_RDWR)
            half.close()

    def _half_ended(self) -> None:
        # Whoever is at the other end of a line that swallows is not told.
        if not self.swallows:
            self.end()

    def _refusal_of(self, command: bytes) -> bytes:
        """Return what answers a command in the server's place; nothing: the server does."""
        name = command.split(b"\r\n", 3)[2].upper()
        if self._in_transaction:
            # One that had begun before is let through to its end.
            self._in_transaction = name not in (b"EXEC", b"DISCARD")
            return b""
        if not self._line.refusal:
            self._in_transaction = name == b"MULTI"
            return b""
        if name == b"MULTI":
            return b"+OK\r\n"
        if name == b"EXEC":
            return b"-EXECABORT Transaction discarded because of previous errors.\r\n"
        if name in _ALWAYS_ANSWERED:
            return b""
        self._line.refusals += 1
        return b"-" + self._line.refusal + b"\r\n"


class Commands:
    """Takes the stream of a client of Redis apart."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, data: bytes) -> list[bytes]:
        """Return the commands that are whole by now."""
        self._rest += data
        found, start = [], 0
        while (end := self._end_of(start)) is not None:
            found.append(self._rest[start:end])
            start = end
        self._rest = self._rest[start:]
        return found

    def _end_of(self, start: int) -> int | None:
        line = self._rest.find(b"\r\n", start)
        if line < 0:
            return None
        place = line + 2
        for _ in range(int(self._rest[start + 1 : line])):
            line = self._rest.find(b"\r\n", place)
            if line < 0:
                return None
            place = line + 2 + int(self._rest[place + 1 : line]) + 2
            if place > len(self._rest):
                return None
        return place
