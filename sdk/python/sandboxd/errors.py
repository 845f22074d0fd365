"""Errors: how an exception becomes one that travels, and the other way (docs/protocol.md, section 8)."""

from __future__ import annotations

import os
import traceback
from typing import Any, Dict, List, Optional, Sequence, Tuple, Type

Address = Tuple[str, str]  # an actor's id and name
NOBODY: Address = ("", "")


class RemoteError(Exception):
    """An error that came back from a call, or that this side reports in the protocol's own terms.

    type       its type at its source, such as "ValueError" or "main.QuotaError"
    message    what it says
    stack      where it happened, as text for people; "" = unknown
    source     id and name of the actor where it happened; two empty strings = here
    relay      ids and names of the actors that passed it on, nearest to the source first
    canceller  id and name of who cancelled, where that is why, or None
    data       the error's own fields, or None
    """

    type = "sandboxd.RemoteError"

    def __init__(self, message: str = "", *, type: Optional[str] = None, stack: str = "", source: Address = NOBODY,
                 relay: Sequence[Address] = (), canceller: Optional[Address] = None, data: Any = None) -> None:
        super().__init__(message)
        self.type = type or self.type
        self.message, self.stack, self.source = message, stack, source
        self.relay, self.canceller, self.data = tuple(relay), canceller, data

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


class UnknownVerb(RemoteError):
    """Nobody serves that verb."""


class WrongMode(RemoteError):
    """The verb takes the other mode: call() for verbs, open() for streams."""


class BadPayload(RemoteError):
    """A payload is not of the type that the verb takes, or cannot travel."""


class Busy(RemoteError):
    """Too many calls or connections at once."""


class Cancelled(RemoteError):
    """Cancelled, by canceller."""


class Deadline(RemoteError):
    """The deadline passed."""


class Lost(RemoteError):
    """The other side is gone."""


class Panic(RemoteError):
    """The function ended in a way that is no error, such as sys.exit()."""


class Denied(RemoteError):
    """This actor may not do that."""


class NotFound(RemoteError):
    """There is no such actor."""


class Protocol(RemoteError):
    """The peer broke the protocol; the connection is closed."""


_OWN: Dict[str, Type[RemoteError]] = {}
for _cls in (UnknownVerb, WrongMode, BadPayload, Busy, Cancelled, Deadline, Lost, Panic, Denied, NotFound, Protocol):
    _cls.type = "sandboxd." + _cls.__name__
    _OWN[_cls.type] = _cls

_classes: Dict[str, Type[Exception]] = {}
_names: Dict[Type[Exception], str] = {}


def register_error(name: str, cls: Type[Exception]) -> None:
    """Lets exceptions of exactly this class travel as errors of type name, with data, and come back as cls.

    Data are the exception's public attributes, those of vars() that do not begin with "_", as a map. Coming back, an
    instance is made without calling __init__: its args are the message, its attributes the data, and its __cause__ the
    RemoteError. name has 1 to 128 bytes; names that begin with "sandboxd." are the protocol's.
    """
    if name.startswith("sandboxd.") or not 1 <= len(name.encode()) <= 128:
        raise ValueError(f"error name {name!r}: 1 to 128 bytes, and none of the protocol's own")
    _classes[name], _names[cls] = cls, name


def cut(text: str, limit: int, tail: bool = False) -> str:
    """At most limit bytes of UTF-8 of the text: its head, or its tail."""
    raw = text.encode("utf-8", "backslashreplace")
    return (raw[-limit:] if tail and len(raw) > limit else raw[:limit]).decode("utf-8", "ignore")


def _stack(e: BaseException) -> str:
    tb, here = e.__traceback__, os.path.dirname(__file__)
    while tb is not None and tb.tb_next is not None and os.path.dirname(tb.tb_frame.f_code.co_filename) == here:
        tb = tb.tb_next
    try:
        return "".join(traceback.format_exception(type(e), e, tb))
    except Exception:  # an exception may have methods that fail
        return ""


def box(e: BaseException, me: Address) -> List[Any]:
    """What travels for an exception that ends a call: the seven fields, within their limits."""
    remote = e if isinstance(e, RemoteError) else getattr(e, "__sandboxd__", None)
    if isinstance(remote, RemoteError):
        here = remote.source == NOBODY
        relay = list(remote.relay) if here else [*remote.relay, me]
        source = me if here else remote.source
        fields = [remote.type, remote.message, remote.stack, source, relay[:32], remote.canceller, remote.data]
    else:
        cls = type(e)
        name = _names.get(cls) if isinstance(e, Exception) else Panic.type  # type: ignore[arg-type]
        data = {k: v for k, v in vars(e).items() if not k.startswith("_")} if cls in _names else None
        own = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
        try:
            message = str(e)
        except Exception:
            message = "(an exception that cannot say what it is)"
        if name == Panic.type:
            message = f"{own}: {message}"
        fields = [name or own, message, _stack(e), me, [], None, data]
    fields[:3] = cut(str(fields[0]), 128), cut(str(fields[1]), 16384), cut(str(fields[2]), 65536, tail=True)
    return fields


def unbox(type_: str, message: str, stack: str, source: Sequence[str], relay: Sequence[Sequence[str]],
          canceller: Optional[Sequence[str]], data: Any) -> Exception:
    """The exception to raise for an error that came, by its seven fields."""
    remote = _OWN.get(type_, RemoteError)(
        message, type=type_, stack=stack, source=(source[0], source[1]), relay=[(r[0], r[1]) for r in relay],
        canceller=(canceller[0], canceller[1]) if canceller else None, data=data)
    cls = _classes.get(type_)
    if cls is None:
        return remote
    try:
        known: Any = cls.__new__(cls, message)  # type: ignore[call-arg]
        known.args = (message,)
        if isinstance(data, dict):
            known.__dict__.update({k: v for k, v in data.items() if isinstance(k, str) and not k.startswith("_")})
        known.__dict__["__sandboxd__"] = known.__cause__ = remote
        return known  # type: ignore[no-any-return]
    except Exception:  # a class that cannot be made so
        return remote
