"""An actor for tests of supervisors: well-behaved verbs, verbs that fail in many ways, and verbs that break the protocol.

    python3 actor_under_test.py

mode 0: echo double who fail sleep block spin deaf tidy back sback relay ping spawn find big size nested stop exit crash flood forge after-end violations
mode 1: count scount endless slow bidi late early broken deaf-stream stuck pipe through
and violate:NAME, each of which sends what section 9 of docs/protocol.md forbids, and then waits.
"""

import asyncio
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import sandboxd  # noqa: E402
from sandboxd import wire  # noqa: E402

app = sandboxd.Actor()


class QuotaError(Exception):
    """Travels as shop.QuotaError with used and limit."""

    def __init__(self, used, limit):
        super().__init__(f"{used} of {limit} used")
        self.used, self.limit = used, limit


class OddError(Exception):
    """Is not registered: travels as __main__.OddError without data."""


sandboxd.register_error("shop.QuotaError", QuotaError)


@app.verb("echo")
async def echo(x):
    """Gives what it gets."""
    return x


@app.verb("double")
def double(n: int) -> int:
    """A plain function; anything but an integer is BadPayload."""
    return 2 * n


@app.verb("who")
def who():
    """What WELCOME told, and the headers of this call."""
    return {"id": app.id, "name": app.name, "epoch": app.epoch, "limits": app.limits, "verbs": sorted(app.verbs),
            "time_left": sandboxd.current().time_left(), "headers": sandboxd.current().headers, "frame_cap": app.frame_cap}


@app.verb("fail")
async def fail(kind):
    """kind: value, quota, odd, denied, exit, set (cannot be encoded), long (message of 64 KiB), recursion."""
    if kind == "quota":
        raise QuotaError(5, 3)
    if kind == "odd":
        raise OddError("odd")
    if kind == "denied":
        raise sandboxd.Denied("not you")
    if kind == "exit":
        sys.exit(3)
    if kind == "set":
        return {1}
    if kind == "long":
        raise ValueError("é" * (32 << 10))
    if kind == "recursion":
        return await fail(kind)
    raise ValueError(str(kind))


@app.verb("sleep")
async def sleep(seconds):
    """Sleeps; cancellation ends it at once."""
    await asyncio.sleep(seconds)
    return "slept"


@app.verb("block")
def block(seconds):
    """Sleeps in a thread; cancellation abandons it."""
    time.sleep(seconds)
    return "slept"


@app.verb("spin")
def spin():
    """Computes for ever, in a thread."""
    while True:
        pass


@app.verb("deaf")
async def deaf(seconds):
    """Ignores cancellation for that long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            await asyncio.sleep(end - time.monotonic())
        except asyncio.CancelledError:
            pass
    return "never heard"


@app.verb("tidy")
async def tidy():
    """Returns when it is cancelled: the call ends by RETURN."""
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return "tidied"


@app.verb("back")
async def back(x):
    """Calls host.echo of the supervisor."""
    return await app.call("host.echo", x)


@app.verb("sback")
def sback(x):
    """The same from a thread."""
    return app.call_sync("host.echo", x)


@app.verb("relay")
async def relay(args):
    """args: verb, payload, seconds or nil. Calls that verb of the supervisor; its error is passed on."""
    return await app.call(args[0], args[1], timeout=args[2])


@app.verb("ping")
async def ping():
    """Pings the supervisor."""
    await app.ping()
    return "pong"


@app.verb("spawn")
async def spawn(args):
    """args: kind, name, verb, payload. Spawns a child, calls it, cancels it; gives its answer and its end."""
    child = await app.spawn(args[0], args[1])
    answer = await child.call(args[2], args[3])
    await child.cancel("no longer needed")
    return [child.id, child.name, answer, list(await child.wait())]


@app.verb("find")
async def find(args):
    """args: name, verb, payload. Awaits that name, then calls the verb of the first that find gives."""
    await app.await_name(args[0], timeout=10)
    return await (await app.find(args[0]))[0].call(args[1], args[2])


@app.verb("big")
def big(size: int):
    """Gives that many bytes."""
    return b"x" * size


@app.verb("size")
def size(data: bytes):
    """Gives how many bytes it got."""
    return len(data)


@app.verb("nested")
def nested(depth: int):
    """Gives lists within each other: beyond 31 it is BadPayload, since it cannot travel."""
    out = None
    for _ in range(depth):
        out = [out]
    return out


@app.verb("stop")
def stop(status: int):
    """Ends of its own accord: the answer, EXIT, and this exit status."""
    app.stop(status)
    return "bye"


@app.verb("exit")
def exit_now(status: int):
    """Exits without EXIT: a lost peer."""
    os._exit(status)


@app.verb("crash")
def crash():
    """Dies by SIGABRT."""
    os.abort()


@app.verb("flood")
def flood():
    """Writes 1 MiB to standard error."""
    for _ in range(1024):
        os.write(2, b"x" * 1023 + b"\n")
    return "flooded"


@app.verb("forge")
async def forge():
    """Claims that somebody else failed, passed it on, and cancelled."""
    raise sandboxd.RemoteError("forged", type="sandboxd.Lost", source=("0", "root"), relay=[("0", "root")], canceller=("0", "root"))


@app.verb("after-end")
async def after_end():
    """Ends this call twice, and then goes on about it: all of that is ignored but the first."""
    cid = sandboxd.current()._cid
    for body in ([wire.RETURN, cid, "first"], [wire.RETURN, cid, "second"], [wire.CANCELACK, cid, 1]):
        app._conn.write(wire.dumps(body))
    await asyncio.sleep(0.05)
    return "third"


@app.stream("count")
async def count(ctx, limit):
    """Starts with {"limit": limit}, gives every item plus 1, and returns "done" at STOP."""
    await ctx.started({"limit": limit})
    async for item in ctx:
        await ctx.send(item + 1)
    return "done"


@app.stream("scount")
def scount(ctx, limit):
    """The same in a thread."""
    ctx.started({"limit": limit})
    for item in ctx:
        ctx.send(item + 1)
    return "done"


@app.stream("endless")
async def endless(ctx, size):
    """An async generator: items [number, bytes of this size] for ever."""
    number = 0
    while True:
        yield [number, b"x" * size]
        number += 1


@app.stream("slow")
async def slow(ctx, seconds):
    """Takes an item every so many seconds; gives how many there were, and their bytes."""
    n = total = 0
    async for item in ctx:
        n, total = n + 1, total + len(item)
        await asyncio.sleep(seconds)
    return [n, total]


@app.stream("bidi")
async def bidi(ctx, n):
    """Sends n items while it receives; gives the sum of what came."""
    async def send():
        for i in range(n):
            await ctx.send(i)
        await ctx.stop()
    sender = asyncio.ensure_future(send())
    total = 0
    async for item in ctx:
        total += item
    await sender
    return total


@app.stream("late")
async def late(ctx, seconds):
    """Starts after so many seconds."""
    await asyncio.sleep(seconds)
    await ctx.started("late")
    return "end"


@app.stream("early")
async def early(ctx, value):
    """Returns at once, whatever comes."""
    return value


@app.stream("broken")
async def broken(ctx, n):
    """Sends n items, then fails."""
    for i in range(n):
        await ctx.send(i)
    raise QuotaError(n, n)


@app.stream("deaf-stream")
async def deaf_stream(ctx, seconds):
    """Never reads, and ignores cancellation for so long."""
    await ctx.started()
    return await deaf(seconds)


@app.stream("stuck")
async def stuck(ctx, seconds):
    """Never starts."""
    await asyncio.sleep(seconds)


@app.stream("pipe")
async def pipe(ctx, args):
    """args: verb, payload. Passes a dialog with that verb of the supervisor on, both ways, and gives its result."""
    return await passed_on(ctx, app.open(args[0], args[1]))


@app.stream("through")
async def through(ctx, args):
    """args: name, verb, payload. The same with that verb of the first actor that find gives."""
    return await passed_on(ctx, (await app.find(args[0]))[0].open(args[1], args[2]))


async def passed_on(ctx, dialog):
    async with dialog as stream:
        async def there():
            async for item in ctx:
                await stream.send(item)
            await stream.stop()
        await ctx.started(stream.first)
        sender = asyncio.ensure_future(there())
        try:
            async for item in stream:
                await ctx.send(item)
        finally:
            sender.cancel()
        return await stream.result()


def frame(*message):
    """A frame with this message, as it is."""
    return raw(wire.dumps(message))


def raw(body):
    """A frame with this body."""
    return len(body).to_bytes(4, "little") + body


def deep():
    """More arrays within each other than may be."""
    return raw(b"\x92\x1c" + b"\x91" * 32 + b"\x01")


# What mode 0 verbs send: bytes, from the number of the call that asked for it.
VIOLATIONS = {
    "long": lambda cid: (app.frame_cap + 1).to_bytes(4, "little"),
    "empty": lambda cid: raw(b""),
    "two-values": lambda cid: raw(b"\x92\x1c\x01\xc0"),
    "cut-value": lambda cid: raw(b"\x92\x1c\xcd\x01"),
    "claim": lambda cid: raw(b"\x92\x1c\xdd\xff\xff\xff\xff"),
    "deep": lambda cid: deep(),
    "many": lambda cid: raw(b"\x92\x1c\xdd\x00\x01\x00\x00" + b"\x01" * 65536),
    "no-array": lambda cid: raw(b"\x1c"),
    "extension": lambda cid: raw(b"\x93\x18\x02\xd4\x05\x00"),
    "bad-byte": lambda cid: raw(b"\x92\x1c\xc1"),
    "type": lambda cid: frame(99),
    "elements": lambda cid: frame(wire.PING),
    "field": lambda cid: frame(wire.PING, "one"),
    "hello": lambda cid: frame(wire.HELLO, 1, "python/1", [], 0),
    "welcome": lambda cid: frame(wire.WELCOME, 1, "a", "b", 1, 4096, 0, 0, {}, []),
    "startack": lambda cid: frame(wire.STARTACK, 1, 100),
    "cancel": lambda cid: frame(wire.CANCEL, cid, ["", ""], "", 0),
    "cancel-all": lambda cid: frame(wire.CANCEL, 0, ["", ""], "", 0),
    "zero": lambda cid: frame(wire.RETURN, 0, None),
    "dialog": lambda cid: frame(wire.YIELD, cid, 1),
    "parity": lambda cid: frame(wire.START, 1 << 40, "host.echo", 0, 0, 0, {}, None),
    "number": lambda cid: frame(wire.START, 1, "host.echo", 0, 0, 0, {}, None) * 2,
    "unopened": lambda cid: frame(wire.RETURN, 1 << 40, None),
    "pong": lambda cid: frame(wire.PONG, 77),
    "cut": lambda cid: frame(wire.PING, 1)[:-1],
}

# What mode 1 verbs send after STARTACK.
DIALOG_VIOLATIONS = {
    "yield-after-stop": lambda cid: frame(wire.STARTED, cid, 0) + frame(wire.STOP, cid) + frame(wire.YIELD, cid, 1),
    "yield-uncredited": lambda cid: frame(wire.STARTED, cid, 0) + frame(wire.YIELD, cid, b"x" * 65536) * 64,
    "started-twice": lambda cid: frame(wire.STARTED, cid, 0) * 2,
    "yield-unstarted": lambda cid: frame(wire.YIELD, cid, 0),
    "startack-twice": lambda cid: frame(wire.STARTACK, cid, 1),
    "stop-twice": lambda cid: frame(wire.STOP, cid) * 2,
}


def violate(register, name, make):
    """Registers violate:NAME."""
    async def breaks(*args):
        app._conn._writer.write(make(sandboxd.current()._cid))
        if name == "cut":
            app._conn._writer.close()
        await asyncio.sleep(3600)
    register("violate:" + name)(breaks)


for name_, make_ in VIOLATIONS.items():
    violate(app.verb, name_, make_)
for name_, make_ in DIALOG_VIOLATIONS.items():
    violate(app.stream, name_, make_)


@app.verb("violations")
def violations():
    """The names of violate:NAME, of mode 0 and of mode 1."""
    return [list(VIOLATIONS), list(DIALOG_VIOLATIONS)]


if __name__ == "__main__":
    app.run()
