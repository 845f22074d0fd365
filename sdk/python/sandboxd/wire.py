"""Frames and messages: docs/protocol.md, sections 2, 3 and 8, without any I/O.

Bytes from the supervisor are walked by scan() before anything of them is decoded, and decoded values are held
against FORMS before anything looks at them. Payloads stay encoded until a consumer wants them.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import msgpack  # type: ignore[import]

from .errors import BadPayload

HELLO, WELCOME, START, STARTACK, STARTED, YIELD, CREDIT, STOP = range(16, 24)
RETURN, ERROR, CANCEL, CANCELACK, PING, PONG, EXIT = range(24, 31)

PROTO = 1
HANDSHAKE_CAP = 16384  # bytes of the body of HELLO and WELCOME
DEPTH = 32  # arrays and maps within each other
VALUES = 65536  # values in a frame
ITEM_COST = 64  # bytes of window that an item takes at least
BIG = 1 << 53  # the largest number of a call


class Violation(Exception):
    """The other side broke the protocol."""


# What follows a tag: bytes of a scalar; or bytes of a length, and what the length counts.
_SCALAR = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
           0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_BYTES, _ARRAY, _MAP, _EXT = range(4)
_LENGTH = {0xC4: (1, _BYTES), 0xC5: (2, _BYTES), 0xC6: (4, _BYTES), 0xC7: (1, _EXT), 0xC8: (2, _EXT), 0xC9: (4, _EXT),
           0xD9: (1, _BYTES), 0xDA: (2, _BYTES), 0xDB: (4, _BYTES),
           0xDC: (2, _ARRAY), 0xDD: (4, _ARRAY), 0xDE: (2, _MAP), 0xDF: (4, _MAP)}


def scan(body: bytes) -> List[int]:
    """Walks over one msgpack value that fills body, within the limits of section 2.

    Returns where the elements of the outermost array begin, and where the last one ends. Raises Violation.
    """
    size, pos, values = len(body), 0, 0
    open_: List[int] = []  # of every array and map that is open, how many values are still to come
    starts: List[int] = []
    while True:
        values += 1
        if pos >= size or values > VALUES:
            raise Violation("a value is cut short" if pos >= size else f"more than {VALUES} values")
        if len(open_) == 1:
            starts.append(pos)
        tag = body[pos]
        pos += 1
        inner = -1
        if tag < 0x80 or tag >= 0xE0:
            pass
        elif tag < 0xA0:
            inner = tag & 15 if tag >= 0x90 else 2 * (tag & 15)
        elif tag < 0xC0:
            pos += tag & 31
        elif tag in _SCALAR:
            pos += _SCALAR[tag]
        elif tag in _LENGTH or 0xD4 <= tag <= 0xD8:
            width, kind = _LENGTH.get(tag, (0, _EXT))
            count = int.from_bytes(body[pos:pos + width], "big") if width else 1 << (tag - 0xD4)
            pos += width
            if kind == _ARRAY or kind == _MAP:
                inner = count * kind
            else:
                if kind == _EXT:
                    if body[pos:pos + 1] != b"\xff" or count not in (4, 8, 12):
                        raise Violation("an extension that is no timestamp")
                    pos += 1
                pos += count
        else:
            raise Violation("a byte that begins no value")
        if pos > size or inner > size - pos:
            raise Violation("a value is cut short")
        if inner >= 0:
            if len(open_) >= DEPTH:
                raise Violation(f"more than {DEPTH} arrays and maps within each other")
            open_.append(inner)
        while open_ and open_[-1] == 0:
            open_.pop()
        if not open_:
            break
        open_[-1] -= 1
    if pos != size:
        raise Violation("something follows the value")
    return starts + [size]


def _keys(pairs: Iterable[Tuple[Any, Any]]) -> Dict[Any, Any]:
    pairs = list(pairs)
    for key, _ in pairs:
        if type(key) not in (str, bytes, int, bool):  # others may be made to collide
            raise ValueError(f"a map's key of type {type(key).__name__}")
    return dict(pairs)


def loads(raw: bytes) -> Any:
    """Decodes what scan() has seen; integers may be keys, too. Raises BadPayload where Python has no such value."""
    try:
        return msgpack.unpackb(raw, strict_map_key=True)
    except Exception:  # rare: a key that is no string
        try:
            return msgpack.unpackb(raw, strict_map_key=False, object_pairs_hook=_keys)
        except Exception as e:
            raise BadPayload(f"payload cannot be decoded: {e}") from None


def dumps(value: Any) -> bytes:
    """Encodes a payload. Raises BadPayload."""
    try:
        return bytes(msgpack.packb(value, datetime=True))
    except Exception as e:
        raise BadPayload(f"{type(value).__name__} cannot be encoded: {e}") from None


def cost(raw: bytes) -> int:
    """Bytes of window that an encoded item takes."""
    return max(ITEM_COST, len(raw))


Form = Callable[[Any], bool]


def _int(low: int = 0, high: int = BIG) -> Form:
    return lambda v: type(v) is int and low <= v <= high


def _str(high: int, low: int = 0) -> Form:
    return lambda v: type(v) is str and low <= len(v.encode("utf-8", "replace")) <= high


def _list(high: int, form: Form) -> Form:
    return lambda v: type(v) in (list, tuple) and len(v) <= high and all(map(form, v))


def _map(high: int, key: Form, value: Form) -> Form:
    return lambda v: type(v) is dict and len(v) <= high and all(map(key, v)) and all(map(value, v.values()))


def _who(v: Any) -> bool:
    return type(v) in (list, tuple) and len(v) == 2 and all(map(_str(128), v))


def _maybe_who(v: Any) -> bool:
    return v is None or _who(v)


def _raw(v: Any) -> bool:  # a payload, which stays encoded
    return True


def _error(v: Any) -> bool:  # is taken apart by _ERROR
    return True


_name, _number = _str(128, 1), _int()

# What the supervisor may send: the fields after the type.
FORMS: Dict[int, Tuple[Form, ...]] = {
    WELCOME: (_int(PROTO, PROTO), _name, _str(128), _int(1), _int(4096), _int(ITEM_COST), _number,
              _map(VALUES, _str(VALUES), _int(0, (1 << 64) - 1)), _list(1024, _name)),
    START: (_number, _name, _int(0, 1), _number, _number, _map(16, _str(64), _str(512)), _raw),
    STARTACK: (_number, _number), STARTED: (_number, _raw), YIELD: (_number, _raw), CREDIT: (_number, _number),
    STOP: (_number,), RETURN: (_number, _raw), ERROR: (_number, _error),
    CANCEL: (_number, _who, _str(1024), _number), CANCELACK: (_number, _int(0, 1)), PING: (_number,), PONG: (_number,),
}
_ERROR = (_str(128), _str(16384), _str(65536), _who, _list(32, _who), _maybe_who, _raw)


def _check(values: Sequence[Any], forms: Tuple[Form, ...], what: str) -> None:
    for i, (form, value) in enumerate(zip(forms, values), 1):
        if form is _error:
            _check(value, _ERROR, "error")
        elif not form(value):
            raise Violation(f"{what}: field {i} has another form")


def body(kind: int, *fields: Any, raw: Optional[bytes] = None, cap: int = BIG) -> bytes:
    """A message's body; raw is an encoded payload that comes last. Raises BadPayload for what would break the protocol."""
    out = dumps([kind, *fields])
    if raw is not None:
        out = bytes((out[0] + 1,)) + out[1:] + raw
    try:
        if len(out) > cap:
            raise Violation(f"a message of {len(out)} bytes; the limit is {cap}")
        _check(fields, FORMS.get(kind, ()), f"message {kind}")
        scan(out)
    except Violation as e:
        raise BadPayload(str(e)) from None
    return out


def _elements(raw: bytes) -> List[int]:
    starts = scan(raw)
    if not (0x90 <= raw[0] <= 0x9F or raw[0] in (0xDC, 0xDD)):
        raise Violation("no array")
    return starts


def _fields(raw: bytes, starts: List[int], forms: Tuple[Form, ...], what: str) -> List[Any]:
    if len(starts) != len(forms) + 1:
        raise Violation(f"{what} with a wrong number of elements")
    out: List[Any] = []
    for i, form in enumerate(forms):
        part = raw[starts[i]:starts[i + 1]]
        if form is _raw:
            value: Any = part
        elif form is _error:
            value = _fields(part, _elements(part), _ERROR, "error")
            try:
                value[6] = loads(value[6])
            except BadPayload:  # Python has no such value: the error's own fields are lost, not the error
                value[6] = None
        else:
            try:
                value = loads(part)
            except BadPayload as e:
                raise Violation(f"{what}: {e}") from None
            if not form(value):
                raise Violation(f"{what}: field {i + 1} has another form")
        out.append(value)
    return out


def parse(raw: bytes) -> Tuple[int, List[Any]]:
    """Takes a body apart: the type, and the fields after it. Payloads stay encoded. Raises Violation."""
    starts = _elements(raw)
    kind = raw[starts[0]] if len(starts) > 1 and starts[1] - starts[0] == 1 else None
    if len(starts) > 1 and kind is None and raw[starts[0]] in range(0xCC, 0xD4):  # a longer form of the same number
        kind = loads(raw[starts[0]:starts[1]])
    if kind not in FORMS:
        raise Violation(f"a message of a type that the supervisor does not send: {kind}")
    fields = _fields(raw, starts[1:], FORMS[kind], f"message {kind}")
    if kind == START and fields[2] == 0 and fields[4] != 0:
        raise Violation("START of mode 0 with a window")
    return kind, fields
