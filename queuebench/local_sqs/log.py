"""The log on disk: what was answered is in it, so that a killed process loses nothing.

One event is one line of JSON. Lines reach the kernel before the answer reaches the client: a killed
process loses nothing, a machine that loses power may lose the last moments. When most of the log is
about messages that are gone, it is written anew: by a forked process, so that nobody waits for it.
What that costs whoever asks meanwhile is the fork, and the copy of what was logged since.
"""

import fcntl
import gc
import os
import signal
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import orjson

from queuebench.errors import SettingsError
from queuebench.local_sqs.events import Event

_FILE = "local-sqs.log"
_LOCK = "local-sqs.lock"
# below this a log is never written anew
_SMALL_BYTES = 16 * 1024 * 1024
# written anew when it has so many times the events that are needed; or twice as many, and so many times the
# bytes that it had when it was last written anew
_GROWTH = 6
_COPIED_AT_ONCE = 1024 * 1024


_MOST_FILES = 1_048_576


@dataclass(frozen=True, slots=True)
class _Writer:
    """A process that writes the log anew: what it writes, and where the old log ended when it began."""

    process: int
    file: int
    counted: int
    path: Path
    began_at: int
    events: int


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
        self._writer: _Writer | None = None
        for left in directory.glob(f"{self._path.stem}.new*"):
            # of a process that was killed while it wrote
            left.unlink(missing_ok=True)

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
        """Tell whether most of the log is about what is gone; what is left takes `needed` events."""
        if self._writer is not None or self._bytes <= _SMALL_BYTES:
            return False
        grown = self._bytes > _GROWTH * max(_SMALL_BYTES, self._bytes_when_compact)
        return self._events > (2 if grown else _GROWTH) * (needed + 1)

    def compact(self, snapshot: Iterable[Event]) -> None:
        """Replace the log by events that say the same, at once.

        Raises:
            OSError: the new log cannot be written; the old one is as it was.
        """
        fresh = self._path.with_suffix(".new")
        file = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_APPEND, 0o644)
        try:
            count = self._write_all(file, snapshot)
            fresh.replace(self._path)
        except OSError:
            os.close(file)
            raise
        self._take(file, count)

    def begin_compacting(self, snapshot: Iterable[Event]) -> None:
        """Begin to write the log anew in a process of its own; `go_on_compacting` takes it over.

        Raises:
            OSError: there can be no such process.
        """
        fresh = self._path.with_suffix(f".new{os.getpid()}")
        file = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_APPEND, 0o644)
        counted, told = os.pipe()
        # What lives now is not touched by the child's garbage collector, so its pages stay shared.
        gc.freeze()
        child = os.fork()
        if child == 0:
            self._write_as_child(file, told, snapshot)
        gc.unfreeze()
        os.close(told)
        self._writer = _Writer(child, file, counted, fresh, self._bytes, self._events)

    def go_on_compacting(self) -> None:
        """Take over a log that was written anew, where it is done; costs the copy of what came since.

        Raises:
            OSError: what came since cannot be copied; the old log is as it was.
        """
        writer = self._writer
        if writer is None or os.waitpid(writer.process, os.WNOHANG) == (0, 0):
            return
        self._writer = None
        count = os.read(writer.counted, 32)
        os.close(writer.counted)
        if not count:
            # The disk is full, say: the old log goes on, and is tried again when it has grown as much again.
            self._bytes_when_compact = self._bytes
            os.close(writer.file)
            writer.path.unlink(missing_ok=True)
            return
        at = writer.began_at
        while at < self._bytes:
            part = os.pread(self._file, min(_COPIED_AT_ONCE, self._bytes - at), at)
            self._write(writer.file, part)
            at += len(part)
        writer.path.replace(self._path)
        self._take(writer.file, int(count) + self._events - writer.events)

    def _take(self, file: int, events: int) -> None:
        os.close(self._file)
        self._file, self._events = file, events
        self._bytes = self._bytes_when_compact = os.fstat(file).st_size

    def _write_all(self, file: int, snapshot: Iterable[Event]) -> int:
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
        return count

    def _write_as_child(self, file: int, told: int, snapshot: Iterable[Event]) -> NoReturn:
        """Write the log, tell how many events it has, and end; nothing else of the parent is used."""
        status = 1
        try:
            gc.disable()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            # Sockets and the lock are the parent's: a child that outlives it must not hold them.
            kept = sorted((file, told))
            for first, last in ((3, kept[0]), (kept[0] + 1, kept[1]), (kept[1] + 1, _MOST_FILES)):
                os.closerange(first, last)
            os.write(told, b"%d" % self._write_all(file, snapshot))
            status = 0
        finally:
            os._exit(status)

    def close(self) -> None:
        """Let another process use the directory."""
        if self._writer is not None:
            os.kill(self._writer.process, signal.SIGKILL)
            os.waitpid(self._writer.process, 0)
            self._writer.path.unlink(missing_ok=True)
        os.close(self._file)
        os.close(self._lock)
