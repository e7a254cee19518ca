"""Fresh UUIDs, cheaper than `uuid.uuid4`."""

import os


class IdSource:
    """Makes version-4 UUIDs from randomness drawn in bulk."""

    def __init__(self) -> None:
        self._hex = ""
        self._at = 0

    def __call__(self) -> str:
        """Return a fresh UUID, as text."""
        if self._at >= len(self._hex):
            self._hex, self._at = os.urandom(16 * 256).hex(), 0
        h = self._hex[self._at : self._at + 32]
        self._at += 32
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"
