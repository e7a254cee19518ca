"""Text of strangers, made safe to show."""


def printable(text: str) -> str:
    """Return the text with what is no visible character escaped: no line ends, no terminal codes."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
