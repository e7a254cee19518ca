"""Text of strangers, made safe to show."""

import logging


def printable(text: str) -> str:
    """Return the text with what is no visible character escaped: no line ends, no terminal codes."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def escape_record(record: logging.LogRecord) -> bool:
    """Make a log record's message printable; a filter that lets everything pass."""
    record.msg, record.args = printable(record.getMessage()), ()
    return True
