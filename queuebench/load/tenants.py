"""Tenants that share a queue: a noisy one has half of all messages, the others the rest alike."""

from __future__ import annotations

from collections.abc import Sequence

NOISY, QUIET = "noisy", "quiet-"


def tenant_of(number: int, tenants: int) -> str:
    """Return whose message a run's message of that number is, among that many tenants, two or more."""
    return NOISY if number % 2 == 0 else f"{QUIET}{1 + number // 2 % (tenants - 1)}"


def with_tenants(heads: Sequence[bytes], first: int, tenants: int) -> list[bytes]:
    """Return heads of messages from number `first` on, each with its tenant before its number."""
    return [
        b'%b"g":"%b","i":' % (head.removesuffix(b'"i":'), tenant_of(number, tenants).encode())
        for number, head in enumerate(heads, first)
    ]
