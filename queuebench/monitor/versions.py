"""What takes part in a run, by name: what differs in it makes runs no repeats of one another."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from pathlib import Path

import orjson

from queuebench.plumbing.asker import Asker, Unanswered
from queuebench.plumbing.proxies import direct_session

PACKAGES = ("celery", "kombu", "redis", "boto3", "requests", "gevent")
HEALTH_SECONDS = 1.0
LONGEST = 200  # characters of what a server says of itself


def versions(local_sqs_url: str) -> dict[str, str]:
    """Return Python's and the packages', the commit, the processor and the local SQS's options.

    Args:
        local_sqs_url: where it is; '' where none takes part.
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    others = {"commit": commit(), "cpu": processor(), "local_sqs": _options(local_sqs_url)}
    return found | {name: text for name, text in others.items() if text}


def commit(checkout: Path = Path(__file__).parents[2]) -> str:
    """Return the commit of a checkout, '' outside one; what is not committed is not in it."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        folder = checkout / ".git"
        if folder.is_file():  # a worktree
            folder = checkout / folder.read_text(errors="replace").removeprefix("gitdir:").strip()
        head = (folder / "HEAD").read_text(errors="replace").strip()
        if not head.startswith("ref: "):
            return head[:12]
        name, common = head.removeprefix("ref: "), folder
        if (folder / "commondir").is_file():
            common = folder / (folder / "commondir").read_text(errors="replace").strip()
        if (common / name).is_file():
            return (common / name).read_text(errors="replace").strip()[:12]
        for line in (common / "packed-refs").read_text(errors="replace").splitlines():
            if line.endswith(f" {name}"):
                return line[:12]
    return ""


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name, '' where nobody tells."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()[:LONGEST]
    return platform.machine()


def _options(url: str) -> str:
    if not url:
        return ""
    with contextlib.suppress(Unanswered, orjson.JSONDecodeError):
        health = f"{url.rstrip('/')}/health"
        answer = Asker(direct_session()).ask("GET", health, seconds=HEALTH_SECONDS)
        said = orjson.loads(answer.content)
        if isinstance(said, dict) and isinstance(said.get("options"), str):
            return str(said["options"])[:LONGEST]
    return ""
