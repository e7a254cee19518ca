"""What a role needs of a Redis, tried at its start without effect: commands, keys and channels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from redis import Redis, exceptions

from queuebench.errors import QueueError
from queuebench.plumbing.redis_client import address, explained, is_full, is_not_now

# What follows the keys, for a command's number of arguments to be right.
_TAILS: dict[str, tuple[str, ...]] = {
    "BLMOVE": ("LEFT", "LEFT", "1"),
    "HDEL": ("x",),
    "HGET": ("x",),
    "HSCAN": ("0",),
    "HSET": ("x", "x"),
    "LINDEX": ("0",),
    "LMOVE": ("LEFT", "LEFT"),
    "LPUSH": ("x",),
    "LRANGE": ("0", "0"),
    "LREM": ("1", "x"),
    "PEXPIRE": ("1000",),
    "PUBLISH": ("x",),
    "RPUSH": ("x",),
    "SADD": ("x",),
    "SCRIPT|EXISTS": ("0" * 40,),
    "SCRIPT|LOAD": ("return 0",),
    "SET": ("x",),
    "SISMEMBER": ("x",),
    "SREM": ("x",),
    "ZADD": ("0", "x"),
    "ZRANGE": ("0", "0"),
    "ZRANGEBYSCORE": ("0", "0"),
    "ZREM": ("x",),
    "ZSCORE": ("x",),
}


_OF_COMMAND = re.compile(r"permissions? to run|can't run")
_BARE = re.compile(r"[\w.+~&|:/@*-]+")


class Place(NamedTuple):
    """A key or a channel: one that is used, and the pattern that an ACL rule has for all like it."""

    name: str
    pattern: str
    is_channel: bool = False

    @property
    def rule(self) -> str:
        return ("&" if self.is_channel else "~") + self.pattern


NOWHERE = Place("", "")
# The commands that are sent, by where; those in two words with a `|`, and those without a key at `NOWHERE`.
Needs = Mapping[Place, str]
_Try = tuple[str, Place]
_Refusal = exceptions.ResponseError | None


def key(pattern: str, name: str = "") -> Place:
    """Return the keys that an ACL pattern names; of them `name`, or any, is tried."""
    return Place(name or pattern.replace("*", uuid4().hex), pattern)


def channel(pattern: str, name: str = "") -> Place:
    """Return channels that an ACL pattern names; who subscribes to a pattern has to be granted that one."""
    return Place(name or pattern, pattern, is_channel=True)


def together(*needs: Needs) -> Needs:
    """Return what all of them need."""
    joined: dict[Place, str] = {}
    for some in needs:
        for place, commands in some.items():
            joined[place] = f"{joined.get(place, '')} {commands}"
    return joined


def require(client: Redis, needs: Needs) -> None:
    """Try everything once, in a transaction that is dropped.

    Raises:
        QueueError: something is missing; the text has all of it, and the ACL rule that grants it.
        TryLater: it takes nothing, or nothing that writes, for now. One that is only full counts as willing,
            since whoever empties it has to begin.
        Unreachable: it does not answer.
    """
    rules: list[str] = []
    unknown: list[str] = []
    may: dict[Place, bool] = {}
    later: exceptions.ResponseError | None = None
    with explained(client):
        answers = _answers(client, [(command, place) for place in needs for command in needs[place].split()])
    for (command, place), refusal in answers:
        if not _is_forbidden(refusal):
            may[place] = True
            if refusal is not None and is_not_now(refusal):
                later = later if later or is_full(refusal) else refusal
            elif refusal is not None and not isinstance(refusal, exceptions.ExecAbortError):
                unknown.append(command)
        elif _OF_COMMAND.search(str(refusal)):
            rules.append(f"+{command.lower()}")
            may.setdefault(place, False)
        else:
            rules.append(place.rule)
            may[place] = True
    if rules or unknown:
        # Of a command that is not granted a server does not say whether its key would be.
        rules += [place.rule for place, known in may.items() if not known and place.pattern]
        raise QueueError(_lacking(client, dict.fromkeys(rules), dict.fromkeys(unknown)))
    if later is not None:
        with explained(client):
            raise later


def _answers(client: Redis, tries: Sequence[_Try]) -> list[tuple[_Try, _Refusal]]:
    """Return what a server says to each; to a few only where it refuses transactions."""
    pool = client.connection_pool
    try:
        connection: Any = pool.get_connection()
    except exceptions.NoPermissionError as refusal:
        return [(("SELECT", NOWHERE), refusal)]

    def reply() -> _Refusal:
        try:
            connection.read_response()
        except exceptions.ResponseError as refusal:
            return refusal
        return None

    def answer(*words: str) -> _Refusal:
        connection.send_command(*words)
        return reply()

    try:
        # Within a transaction it is refused to everybody; nothing comes of it.
        found = [(each, answer("WATCH", each[1].name)) for each in tries if each[0] == "WATCH"]
        begun = answer("MULTI")
        found.append((("MULTI", NOWHERE), begun))
        if begun is None and ("EXEC", NOWHERE) in tries:
            ended = answer("EXEC")
            found.append((("EXEC", NOWHERE), ended))
            if ended is not None:
                connection.disconnect()
                connection.connect()
            begun = answer("MULTI")
        if begun is None:
            inside = [each for each in tries if each[0] not in ("WATCH", "MULTI", "EXEC")]
            connection.send_packed_command(connection.pack_commands([_words(*each) for each in inside]))
            found += [(each, reply()) for each in inside]
        return found
    finally:
        connection.disconnect()
        pool.release(connection)


def _is_forbidden(refusal: _Refusal) -> bool:
    return isinstance(refusal, exceptions.NoPermissionError) or "NOPERM" in str(refusal)


def _words(command: str, place: Place) -> tuple[str, ...]:
    """Return a command that could be sent, for its name and its place."""
    if command in ("EVAL", "EVALSHA"):
        script = "return 0" if command == "EVAL" else "0" * 40
        return (command, script, "1", place.name) if place.name else (command, script, "0")
    keys = [place.name] if place.name else []
    if command in ("LMOVE", "BLMOVE"):
        keys *= 2
    return (*command.split("|"), *keys, *_TAILS.get(command, ()))


def _lacking(client: Redis, rules: Mapping[str, None], unknown: Mapping[str, None]) -> str:
    told = []
    if unknown:
        names = ", ".join(command.replace("|", " ") for command in unknown)
        told.append(f"does not know {names}: renamed or disabled there, and needed under the usual name")
    if rules:
        options: Mapping[str, Any] = client.connection_pool.connection_kwargs
        user = options.get("username") or "default"
        in_order = sorted(rules, key=lambda rule: "+~&".index(rule[0]))
        granted = " ".join(rule if _BARE.fullmatch(rule) else f"'{rule}'" for rule in in_order)
        rest = " (the rest can be tried only then)" if "+multi" in rules else ""
        told.append(
            f"does not let the user {user} do what is needed; grant it: ACL SETUSER {user} {granted}{rest}"
        )
    return f"{address(client)} {', and '.join(told)}"
