"""The limit on open files, which is one on connections."""

import contextlib
import resource

ENOUGH = 65_536


def raise_limit() -> None:
    """Let this process have as many open files as it may; the usual 1,024 are no more than 1,000 POSTs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
