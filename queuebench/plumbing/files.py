"""Files that anybody may have put there: only regular ones are read, and only so much of one."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read(path: Path, most_bytes: int) -> bytes:
    """Return what a regular file holds.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than `most_bytes`.
    """
    # A pipe or a device is not to be waited for.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it has more than {most_bytes:,} bytes", str(path))
    return data


def append(path: Path, data: bytes) -> None:
    """Add to a file, which is made where there is none.

    Raises:
        OSError: it cannot be written.
    """
    _write(path, data, os.O_APPEND)


def replace(path: Path, data: bytes) -> None:
    """Replace a file, so that a reader or a crash never meets half of it.

    Raises:
        OSError: it cannot be written.
    """
    beside = path.with_suffix(".tmp")
    _write(beside, data, os.O_TRUNC)
    beside.replace(path)


def _write(path: Path, data: bytes, flag: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | flag, 0o666)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
    finally:
        os.close(file)
