"""Questions to the project's own services, each within a time and in bounded bytes, whoever answers.

urllib3 bounds each read and not the whole, and reads what a body has without end: a wrong URL may name a
server that sends a byte now and then, or for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import requests

CONNECT_SECONDS = 2.0
_READ_BYTES = 65_536
# What is compressed could become any size.
HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}


class Unanswered(Exception):
    """No whole answer within the time; the text says why."""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer."""

    status: int
    content: bytes

    @property
    def text(self) -> str:
        """Its beginning, to be shown."""
        return self.content[:800].decode(errors="replace").strip()[:200]


class Asker:
    """Asks one question after the other; one that hangs lets none follow until it has ended.

    Each is asked in a thread of its own, of which there is one at most.
    """

    def __init__(self, session: requests.Session) -> None:
        self._session = session
        self._thread: threading.Thread | None = None

    def ask(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        data: bytes | None = None,
        query: Mapping[str, str] | None = None,
        most_bytes: int = 2**20,
    ) -> Said:
        """Return what is answered; redirects are answers.

        Args:
            method: of HTTP.
            url: without a query.
            seconds: for all of it.
            data: JSON to send.
            query: to be put behind the URL.
            most_bytes: that an answer may have.

        Raises:
            Unanswered: see the class.
        """
        if self._thread is not None and self._thread.is_alive():
            raise Unanswered("the question before is still being answered")
        told: list[Said | Exception] = []

        def ask() -> None:
            try:
                told.append(self._ask(method, url, seconds, data, query, most_bytes))
            except Exception as error:  # whatever a stranger's answer makes of the libraries
                told.append(error)

        self._thread = threading.Thread(target=ask, name="asker", daemon=True)
        self._thread.start()
        self._thread.join(seconds)
        if not told:
            raise Unanswered(f"no whole answer within {seconds:g} s")
        if isinstance(told[0], Unanswered):
            raise told[0]
        if isinstance(told[0], Exception):
            raise Unanswered(type(told[0]).__name__) from told[0]
        return told[0]

    def _ask(
        self,
        method: str,
        url: str,
        seconds: float,
        data: bytes | None,
        query: Mapping[str, str] | None,
        most_bytes: int,
    ) -> Said:
        with self._session.request(
            method,
            url,
            params=query,
            data=data,
            headers=HEADERS,
            timeout=(CONNECT_SECONDS, seconds),
            allow_redirects=False,
            stream=True,
        ) as answer:
            content = bytearray()
            # To its end, where urllib3 says that it was cut short.
            while part := answer.raw.read(_READ_BYTES, decode_content=False):
                content += part
                if len(content) > most_bytes:
                    raise Unanswered(f"more than {most_bytes:,} bytes")
            return Said(answer.status_code, bytes(content))
