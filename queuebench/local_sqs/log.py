"""The log on disk: what was answered is in it, so that a killed process loses nothing.

One event is one line of JSON. Lines reach the kernel before the answer reaches the client: a killed
process loses nothing, a machine that loses power may lose the last moments. When most of the log is
about messages that are gone, it is written anew.
"""

import fcntl
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import orjson

from queuebench.errors import SettingsError
from queuebench.local_sqs.engine import Event

_FILE = "local-sqs.log"
_LOCK = "local-sqs.lock"
# below this a log is never written anew
_SMALL_BYTES = 16 * 1024 * 1024
# written anew when it has so many times the events that are needed, or so many times the bytes that it
# had when it was last written anew
_GROWTH = 6


class Log:
    """An append-only file in a directory that one process at a time may use.

    Raises:
        SettingsError: the directory cannot be used, or another process uses it.
    """

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / _LOCK, os.O_CREAT | os.O_RDWR, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._path = directory / _FILE
            self._file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
        except BlockingIOError:
            raise SettingsError(
                f"another local SQS uses {directory}: stop it, or name another --data"
            ) from None
        except OSError as error:
            raise SettingsError(f"cannot keep the log in {directory}: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise SettingsError(f"{self._path} is not an ordinary file")
        self._bytes = os.fstat(self._file).st_size
        self._bytes_when_compact = self._bytes
        self._events = 0

    def read(self) -> Iterator[Event]:
        """Yield every event; a torn last line, which was never answered, is cut off.

        Raises:
            SettingsError: the log is damaged before its last line.
        """
        good = 0
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError("torn")
                    event = orjson.loads(line)
                except ValueError:
                    if good + len(line) < self._bytes:
                        raise SettingsError(
                            f"line {number} of {self._path} is damaged: move the file away to start empty"
                        ) from None
                    break
                good += len(line)
                self._events += 1
                yield event
        if good < self._bytes:
            os.ftruncate(self._file, good)
            self._bytes = good

    def append(self, events: Collection[Event]) -> None:
        """Write events.

        Raises:
            OSError: they are not, or not all, written; nothing may be appended after that.
        """
        data = b"".join([orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for event in events])
        self._write(self._file, data)
        self._bytes += len(data)
        self._events += len(events)

    @staticmethod
    def _write(file: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]

    def is_worth_compacting(self, needed: int) -> bool:
        """Tell whether the log is much longer than what it says, which takes `needed` events."""
        return self._bytes > _SMALL_BYTES and (
            self._events > _GROWTH * (needed + 1) or self._bytes > _GROWTH * self._bytes_when_compact
        )

    def compact(self, snapshot: Iterable[Event]) -> None:
        """Replace the log by events that say the same.

        Raises:
            OSError: the new log cannot be written; the old one is as it was.
        """
        fresh = self._path.with_suffix(".new")
        file = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_APPEND, 0o644)
        try:
            chunk: list[bytes] = []
            count = 0
            for event in snapshot:
                count += 1
                chunk.append(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))
                if len(chunk) == 1000:
                    self._write(file, b"".join(chunk))
                    chunk.clear()
            self._write(file, b"".join(chunk))
            os.fsync(file)
            fresh.replace(self._path)
        except OSError:
            os.close(file)
            raise
        os.close(self._file)
        self._file = file
        self._events = count
        self._bytes = self._bytes_when_compact = os.fstat(file).st_size

    def close(self) -> None:
        """Let another process use the directory."""
        os.close(self._file)
        os.close(self._lock)
