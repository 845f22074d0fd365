"""What breaks the protocol, hostile bytes, and connections that end anywhere."""

import asyncio
import os
import random
import unittest

from .fake import (CANCEL, CANCELACK, CREDIT, ERROR, EXIT, HELLO, PING, PONG, RETURN, START, STARTACK, STARTED, STOP, YIELD, Raw, Supervisor, Test,
                   frame, pack, sandboxd, start, welcome)
from sandboxd import wire

NOBODY = ["", ""]
OK = ["T", "m", "s", NOBODY, [], None, None]


def actor():
    """Serves echo, fast and dialog; go opens dialog 1, and call calls 1."""
    app = sandboxd.Actor(window=128)

    @app.verb("echo")
    async def echo(x):
        return x

    @app.stream("dialog")
    async def dialog(ctx):
        await ctx.started()
        await asyncio.sleep(3600)

    @app.verb("sleep")
    async def sleep():
        await asyncio.sleep(3600)

    @app.verb("go")
    async def go():
        async with app.open("host.dialog"):
            await asyncio.sleep(3600)

    @app.verb("call")
    async def call():
        return await app.call("host.echo")

    return app


def body(*values):
    """A frame of these bytes."""
    raw = b"".join(values)
    return len(raw).to_bytes(4, "little") + raw


def ping(n):
    """A body with one more element than PING has, for structure tests."""
    return bytes([0x92, PING]) + n


# First a conversation, then what breaks it.
IDLE = ()
SLEEPING = (start(2, "sleep"),)
SERVING = (start(2, "dialog", mode=1, window=128),)
CALLING = (start(2, "call"),)
OPENING = (start(2, "go"),)
OPENED = (start(2, "go"), frame(STARTACK, 1, 128), frame(STARTED, 1, None))
ENDED = (start(2, "echo"),)

ROWS = {
    "too long": (IDLE, (0x100001).to_bytes(4, "little")),
    "much too long": (IDLE, b"\xff\xff\xff\xff"),
    "empty": (IDLE, body(b"")),
    "two values": (IDLE, body(ping(b"\x01"), b"\x01")),
    "cut value": (IDLE, body(ping(b"\xcd\x01"))),
    "cut string": (IDLE, body(ping(b"\xd9\x05abcd"))),
    "cut length": (IDLE, body(ping(b"\xdb\x00\x00"))),
    "array claim": (IDLE, body(ping(b"\xdd\xff\xff\xff\xff"))),
    "map claim": (IDLE, body(ping(b"\xdf\x7f\xff\xff\xff"))),
    "bin claim": (IDLE, body(ping(b"\xc6\xff\xff\xff\xff"))),
    "deep": (IDLE, body(ping(b"\x91" * 32 + b"\x01"))),
    "many": (IDLE, body(ping(b"\xdd\x00\x01\x00\x00" + b"\x01" * 65536))),
    "reserved byte": (IDLE, body(ping(b"\xc1"))),
    "extension": (IDLE, start(2, "echo", Raw(b"\xd4\x05\x00"))),
    "odd timestamp": (IDLE, start(2, "echo", Raw(b"\xd5\xff\x00\x00"))),
    "no array": (IDLE, body(bytes([PING]))),
    "a map": (IDLE, body(bytes([0x81, PING, 1]))),
    "no elements": (IDLE, body(b"\x90")),
    "type 15": (IDLE, frame(15)),
    "type 31": (IDLE, frame(31)),
    "type -1": (IDLE, frame(-1)),
    "type true": (IDLE, frame(True, 1)),
    "type text": (IDLE, frame("START")),
    "too few": (IDLE, frame(PING)),
    "too many": (IDLE, frame(PING, 1, 2)),
    "ping text": (IDLE, frame(PING, "1")),
    "ping float": (IDLE, frame(PING, 1.0)),
    "ping negative": (IDLE, frame(PING, -1)),
    "ping big": (IDLE, frame(PING, (1 << 53) + 1)),
    "ping bool": (IDLE, frame(PING, True)),
    "verb empty": (IDLE, start(2, "")),
    "verb long": (IDLE, start(2, "é" * 65)),
    "verb bytes": (IDLE, start(2, b"echo")),
    "verb no utf-8": (IDLE, start(2, Raw(b"\xa2\xff\xff"))),
    "mode 2": (IDLE, start(2, "echo", mode=2)),
    "window in mode 0": (IDLE, start(2, "echo", window=1)),
    "headers list": (IDLE, start(2, "echo", headers=[1])),
    "headers many": (IDLE, start(2, "echo", headers={str(i): "" for i in range(17)})),
    "header key": (IDLE, start(2, "echo", headers={"k" * 65: ""})),
    "header value": (IDLE, start(2, "echo", headers={"k": "v" * 513})),
    "header number": (IDLE, start(2, "echo", headers={"k": 1})),
    "header key list": (IDLE, start(2, "echo", headers=Raw(b"\x81\x90\xa0"))),
    "cid too big": (IDLE, start((1 << 53) + 2, "echo")),
    "hello": (IDLE, frame(HELLO, 1, "go/1", [], 0)),
    "exit": (IDLE, frame(EXIT)),
    "welcome twice": (IDLE, welcome()),
    "start odd": (IDLE, start(1, "echo")),
    "start zero": (IDLE, start(0, "echo")),
    "start same": (ENDED, start(2, "echo")),
    "start smaller": ((start(8, "echo"),), start(6, "echo")),
    "pong": (IDLE, frame(PONG, 1)),
    "cid 0": (IDLE, frame(YIELD, 0, 1)),
    "cancelack 0": (IDLE, frame(CANCELACK, 0, 0)),
    "return 0": (IDLE, frame(RETURN, 0, None)),
    "unopened": (IDLE, frame(YIELD, 2, 1)),
    "unopened cancel": (IDLE, frame(CANCEL, 2, NOBODY, "", 0)),
    "unopened return": (IDLE, frame(RETURN, 1, 1)),
    "unopened later": (CALLING, frame(RETURN, 3, 1)),
    "startack by opener": (SERVING, frame(STARTACK, 2, 1)),
    "started by opener": (SERVING, frame(STARTED, 2, 1)),
    "return by opener": (SLEEPING, frame(RETURN, 2, 1)),
    "return by opener, ended": (ENDED, frame(RETURN, 2, 1)),
    "error by opener": (SLEEPING, frame(ERROR, 2, OK)),
    "cancelack by opener": (SLEEPING, frame(CANCELACK, 2, 0)),
    "cancel by server": (CALLING, frame(CANCEL, 1, NOBODY, "", 0)),
    "cancelack for nothing": (CALLING, frame(CANCELACK, 1, 0)),
    "cancel without by": (SLEEPING, frame(CANCEL, 2, [""], "", 0)),
    "cancel long reason": (SLEEPING, frame(CANCEL, 2, NOBODY, "x" * 1025, 0)),
    "yield in mode 0": (SLEEPING, frame(YIELD, 2, 1)),
    "credit in mode 0": (SLEEPING, frame(CREDIT, 2, 1)),
    "stop in mode 0": (SLEEPING, frame(STOP, 2)),
    "startack in mode 0": (CALLING, frame(STARTACK, 1, 1)),
    "yield after stop": (SERVING, frame(STOP, 2) + frame(YIELD, 2, 1)),
    "stop twice": (SERVING, frame(STOP, 2) * 2),
    "yield without credit": (SERVING, frame(YIELD, 2, 1) * 3),
    "yield before startack": (IDLE, start(2, "dialog", mode=1, window=1) + frame(YIELD, 2, 1)),
    "server's yield without credit": (OPENED, frame(YIELD, 1, b"x" * 200) * 2),
    "server's yield before started": (OPENING, frame(STARTACK, 1, 1) + frame(YIELD, 1, 1)),
    "started before startack": (OPENING, frame(STARTED, 1, 1)),
    "started twice": (OPENED, frame(STARTED, 1, 1)),
    "startack twice": (OPENED, frame(STARTACK, 1, 1)),
    "server's yield after stop": (OPENED, frame(STOP, 1) + frame(YIELD, 1, 1)),
    "error elements": (CALLING, frame(ERROR, 1, OK[:6])),
    "error no array": (CALLING, frame(ERROR, 1, "bad")),
    "error long type": (CALLING, frame(ERROR, 1, ["x" * 129] + OK[1:])),
    "error long message": (CALLING, frame(ERROR, 1, ["x", "m" * 16385] + OK[2:])),
    "error long stack": (CALLING, frame(ERROR, 1, ["x", "m", "s" * 65537] + OK[3:])),
    "error source": (CALLING, frame(ERROR, 1, OK[:3] + [None] + OK[4:])),
    "error relay": (CALLING, frame(ERROR, 1, OK[:4] + [[NOBODY] * 33] + OK[5:])),
    "error canceller": (CALLING, frame(ERROR, 1, OK[:5] + ["me", None])),
}


class Violations(Test):
    def test_rows(self):
        for name, (before, bad) in ROWS.items():
            with self.subTest(name), Supervisor(actor()) as sup:
                for f in before:
                    sup.send(f, frame(PING, 77))
                    missing = {PONG, START} if f in CALLING + OPENING else {PONG}
                    while missing:
                        missing.discard(sup.recv()[0])
                sup.send(bad)
                self.assertEnded(sup, "sandboxd.Protocol")


class Tolerated(Test):
    def test_limits(self):  # just within them
        with Supervisor(actor()) as sup:
            deep = Raw(b"\x91" * 31 + b"\x01")
            sup.send(start(2, "echo", deep), start(4, "echo", Raw(b"\xdd\x00\x00\xff\xf0" + b"\x01" * 65520)),
                     start(6, "echo", headers={f"{i:064}": "v" * 512 for i in range(16)}), start(1 << 53, "é" * 64))
            self.assertEqual(sorted(sup.recv()[:2] for _ in range(4)), [[RETURN, 2], [RETURN, 4], [RETURN, 6], [ERROR, 1 << 53]])

    def test_crossed(self):
        with Supervisor(actor()) as sup:
            sup.send(start(2, "echo"), start(4, "call"))
            self.assertEqual(sorted(sup.recv()[:2] for _ in range(2)), [[START, 1], [RETURN, 2]])
            sup.send(frame(YIELD, 2, 1), frame(STOP, 2), frame(CREDIT, 2, 9), frame(CANCEL, 2, NOBODY, "", 0))
            self.assertEqual(sup.recv(), [CANCELACK, 2, 1])
            sup.send(frame(RETURN, 1, 5), frame(RETURN, 1, 6), frame(ERROR, 1, OK), frame(CANCELACK, 1, 1), frame(STARTED, 1, 0))
            self.assertEqual(sup.recv(), [RETURN, 4, 5])
            sup.quiet(0.1)

    def test_odd_error_data(self):
        with Supervisor(actor()) as sup:
            sup.send(start(2, "call"))
            sup.recv()
            sup.send(frame(ERROR, 1, OK[:6] + [Raw(b"\x81\x90\x01")]))
            self.assertEqual(sup.recv(), [ERROR, 2, ["T", "m", "s", ["7", "me"], [], None, None]])


def conversation():
    """Frames that touch everything, for tests that cut and bend them; before the second part comes STARTACK."""
    return ([welcome(), start(2, "echo", {"a": [1, "b", b"c", None, 1.5]}), start(4, "dialog", mode=1, window=100)],
            [frame(YIELD, 4, "item"), frame(CREDIT, 4, 64), frame(STOP, 4), frame(PING, 9), start(6, "call"),
             frame(CANCEL, 4, ["1", "x"], "why", 1000), start(8, "go"), frame(CANCEL, 0, ["1", "x"], "end", 500)])


class Bytes(Test):
    def feed(self, data, rest=b"", close=True):
        """Gives the bytes to an actor, the rest after STARTACK, closes, and returns how the actor ended."""
        with Supervisor(actor(), greet=False) as sup:
            try:
                sup.send(data)
                if rest:
                    sup.until(STARTACK)
                    sup.send(rest)
                if close:
                    sup.sock.shutdown(1)
            except OSError:
                pass
            try:
                while sup.sock.recv(1 << 16):
                    pass
            except ConnectionError:
                pass
            outcome = sup.join()
            if outcome != 0:
                self.assertIsInstance(outcome, (sandboxd.Lost, sandboxd.Protocol))
            return outcome

    def test_truncation(self):
        data, rest = map(b"".join, conversation())
        self.assertEqual(self.feed(data, rest, close=False), 0)
        for n in range(len(data + rest)):
            with self.subTest(n):
                self.assertIsInstance(self.feed(data[:n], rest[:max(0, n - len(data))]), sandboxd.Lost)

    def test_bent_conversations(self):
        rng = random.Random(1)
        for i in range(int(os.environ.get("FUZZ", "150"))):
            frames = sum(conversation(), [])
            for _ in range(rng.randint(1, 4)):
                k = rng.randrange(len(frames))
                f = bytearray(frames[k])
                f[rng.randrange(len(f))] = rng.choice((rng.randrange(256), 0xC1, 0xDD, 0xFF, 0x00))
                frames[k] = bytes(f) if rng.random() < 0.8 else frames[rng.randrange(len(frames))]
            with self.subTest(i):
                self.feed(b"".join(frames))

    def test_random_bodies(self):
        rng = random.Random(2)
        for i in range(int(os.environ.get("FUZZ", "100"))):
            bodies = [bytes(rng.randrange(256) for _ in range(rng.randrange(1, 40))) for _ in range(3)]
            with self.subTest(i):
                self.feed(welcome() + b"".join(map(body, bodies)))

    def test_parser(self):  # many more, without a connection
        rng = random.Random(3)
        seeds = [f[4:] for f in sum(conversation(), [])] + [frame(ERROR, 1, OK)[4:]]
        for _ in range(200 * int(os.environ.get("FUZZ", "100"))):
            raw = bytearray(rng.choice(seeds))
            for _ in range(rng.randint(1, 6)):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            raw = bytes(raw[:rng.randint(1, len(raw))]) if rng.random() < 0.3 else bytes(raw)
            try:
                kind, fields = wire.parse(raw)
            except wire.Violation:
                continue
            self.assertEqual(len(fields), len(wire.FORMS[kind]))
            for field in fields:
                if isinstance(field, bytes):
                    try:
                        wire.loads(field)
                    except sandboxd.BadPayload:
                        pass

    def test_scan_agrees(self):  # with what the encoder makes, and with every cut of it
        for value in (None, [], {}, [1, [2, {"a": b"b" * 300}]], {"k": ["s" * 70000, -5, 1 << 40, 2.5]}, list(range(70))):
            raw = pack(value)
            self.assertEqual(wire.scan(raw)[-1], len(raw))
            for n in list(range(min(len(raw), 400))) + [len(raw) - 1]:
                with self.assertRaises(wire.Violation):
                    wire.scan(raw[:n])
            with self.assertRaises(wire.Violation):
                wire.scan(raw + b"\xc0")


if __name__ == "__main__":
    unittest.main()
