"""A supervisor for tests. It builds and reads its bytes by hand, so that it shares no mistake with what it tests."""

import asyncio
import faulthandler
import os
import socket
import struct
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import sandboxd  # noqa: E402

HELLO, WELCOME, START, STARTACK, STARTED, YIELD, CREDIT, STOP = range(16, 24)
RETURN, ERROR, CANCEL, CANCELACK, PING, PONG, EXIT = range(24, 31)
TIMEOUT = 20  # seconds that any single step of a test may take


class Raw(bytes):
    """Bytes that pack() takes as they are."""


def pack(v):
    """The shortest msgpack form."""
    if isinstance(v, Raw):
        return bytes(v)
    if v is None:
        return b"\xc0"
    if isinstance(v, bool):
        return b"\xc3" if v else b"\xc2"
    if isinstance(v, int):
        if 0 <= v < 128:
            return bytes([v])
        if -32 <= v < 0:
            return bytes([v & 0xFF])
        if v > 0:
            n = next(n for n in range(4) if v < 1 << (8 << n))
            return bytes([0xCC + n]) + v.to_bytes(1 << n, "big")
        n = next(n for n in range(4) if v >= -(1 << ((8 << n) - 1)))
        return bytes([0xD0 + n]) + v.to_bytes(1 << n, "big", signed=True)
    if isinstance(v, float):
        return b"\xcb" + struct.pack(">d", v)
    if isinstance(v, str):
        b = v.encode()
        return _length(len(b), ((32, 0xA0), (256, 0xD9), (1 << 16, 0xDA), (1 << 32, 0xDB))) + b
    if isinstance(v, bytes):
        return _length(len(v), ((256, 0xC4), (1 << 16, 0xC5), (1 << 32, 0xC6))) + v
    if isinstance(v, (list, tuple)):
        return _length(len(v), ((16, 0x90), (1 << 16, 0xDC), (1 << 32, 0xDD))) + b"".join(map(pack, v))
    if isinstance(v, dict):
        return _length(len(v), ((16, 0x80), (1 << 16, 0xDE), (1 << 32, 0xDF))) + b"".join(pack(k) + pack(x) for k, x in v.items())
    raise TypeError(type(v))


def _length(n, forms):
    for limit, tag in forms:
        if n < limit:
            return bytes([tag | n]) if limit in (16, 32) else bytes([tag]) + n.to_bytes((limit.bit_length() - 1) // 8, "big")
    raise ValueError(n)


def unpack(b, pos=0):
    """The value at pos, and where it ends."""
    tag, pos = b[pos], pos + 1

    def number(size, signed=False):
        return int.from_bytes(b[pos:pos + size], "big", signed=signed), pos + size

    def many(n, pos):
        out = []
        for _ in range(n):
            v, pos = unpack(b, pos)
            out.append(v)
        return out, pos

    def pairs(n, pos):
        out, pos = many(2 * n, pos)
        return dict(zip(out[::2], out[1::2])), pos

    if tag < 0x80:
        return tag, pos
    if tag >= 0xE0:
        return tag - 256, pos
    if tag < 0x90:
        return pairs(tag & 15, pos)
    if tag < 0xA0:
        return many(tag & 15, pos)
    if tag < 0xC0:
        return b[pos:pos + (tag & 31)].decode(), pos + (tag & 31)
    if tag in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[tag], pos
    if tag == 0xCB:
        return struct.unpack(">d", b[pos:pos + 8])[0], pos + 8
    if 0xCC <= tag <= 0xCF:
        return number(1 << (tag - 0xCC))
    if 0xD0 <= tag <= 0xD3:
        return number(1 << (tag - 0xD0), True)
    size = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}.get(tag)
    if size is None:
        return Raw(b[pos - 1:]), len(b)  # a timestamp; only ever last in these tests
    n, pos = number(size)
    if tag in (0xC4, 0xC5, 0xC6):
        return bytes(b[pos:pos + n]), pos + n
    if tag in (0xD9, 0xDA, 0xDB):
        return b[pos:pos + n].decode(), pos + n
    return (many if tag in (0xDC, 0xDD) else pairs)(n, pos)


def frame(*fields):
    """A whole frame of a message with these fields."""
    body = pack(fields)
    return struct.pack("<I", len(body)) + body


def start(cid, verb, payload=None, mode=0, left=0, window=0, headers=None):
    """START, as a frame."""
    return frame(START, cid, verb, mode, left, window, headers or {}, payload)


def welcome(cap=1 << 20, window=1 << 16, left=0, limits=None, verbs=("host.echo",), id="7", name="me", epoch=1, proto=1):
    """WELCOME, as a frame."""
    return frame(WELCOME, proto, id, name, epoch, cap, window, left, limits or {}, list(verbs))


class Supervisor:
    """One end of a connection; the actor serves the other in a thread, and how that ended is in outcome."""

    def __init__(self, app, greet=True, **options):
        self.sock, self.theirs = socket.socketpair()
        self.sock.settimeout(TIMEOUT)
        self.outcome = None
        self.thread = threading.Thread(target=self._serve, args=(app,), daemon=True)
        self.thread.start()
        if greet:
            self.hello = self.recv()
            self.send(welcome(**options))

    def _serve(self, app):
        try:
            self.outcome = asyncio.run(app.serve(sock=self.theirs))
        except BaseException as e:
            self.outcome = e

    def send(self, *frames):
        self.sock.sendall(b"".join(frames))

    def read(self, n):
        out = b""
        while len(out) < n:
            part = self.sock.recv(n - len(out))
            if not part:
                raise EOFError(f"{len(out)} of {n} bytes")
            out += part
        return out

    def recv(self):
        """The next message, as a list; checks that its body is the shortest form."""
        body = self.read(struct.unpack("<I", self.read(4))[0])
        value, end = unpack(body)
        assert end == len(body), body
        assert pack(value) == body, body
        return value

    def until(self, *kinds):
        """The next message of one of these types; drops the others."""
        while True:
            m = self.recv()
            if m[0] in kinds:
                return m

    def quiet(self, seconds=0.15):
        """Fails if something comes within that time."""
        self.sock.settimeout(seconds)
        try:
            raise AssertionError(f"came: {self.recv()}")
        except socket.timeout:
            pass
        finally:
            self.sock.settimeout(TIMEOUT)

    def end(self):
        """What is left to read until the connection closes."""
        out = []
        try:
            while True:
                out.append(self.recv())
        except (EOFError, ConnectionResetError):
            return out

    def join(self):
        """Waits for the actor's end, and returns it."""
        self.thread.join(TIMEOUT)
        assert not self.thread.is_alive(), "the actor goes on"
        return self.outcome

    def cancel(self, grace=1000):
        """Ends the actor, and returns what it said before EXIT."""
        self.send(frame(CANCEL, 0, ["1", "boss"], "enough", grace))
        out = self.end()
        assert out[-1] == [EXIT], out
        return out[:-1]

    def __enter__(self):
        return self

    def __exit__(self, *e):
        self.sock.close()
        self.thread.join(TIMEOUT)


class Test(unittest.TestCase):
    """With a watchdog: a test that hangs says where, and ends everything."""

    def setUp(self):
        faulthandler.dump_traceback_later(120, exit=True)
        self.addCleanup(faulthandler.cancel_dump_traceback_later)

    def assertEnded(self, sup, kind, outcome=None):
        """The next message is ERROR with cid 0 of this type, and then the connection and the actor end."""
        rest = sup.end()
        self.assertTrue(rest, "closed without a word")
        self.assertEqual(rest[-1][:2], [ERROR, 0])
        self.assertEqual(rest[-1][2][0], kind)
        self.assertIsInstance(sup.join(), outcome or sandboxd.Protocol)
