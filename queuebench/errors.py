"""Every error that this project raises on purpose."""

from queuebench.plumbing.printable import safe_text


class QueueBenchError(Exception):
    """The root of them; its text is one line that says what is wrong and what to do, without secrets."""

    def __init__(self, text: object = "") -> None:
        super().__init__(safe_text(str(text)))


class SettingsError(QueueBenchError):
    """A setting has a value that cannot be used."""


class MessageError(QueueBenchError):
    """A message is not what the message format asks for."""


class QueueError(QueueBenchError):
    """A queue, or the server behind it, refused or could not be reached."""


class Unreachable(QueueError):
    """The server did not answer; the same call may succeed later."""


class TryLater(Unreachable):
    """The server answers, and refuses for now."""


class Throttled(TryLater):
    """More calls came than a quota allows."""
