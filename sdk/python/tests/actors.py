"""An actor with a verb for every case of the tests."""

import asyncio
import sys
import threading

from .fake import sandboxd


class QuotaError(Exception):
    def __init__(self, used, limit):
        super().__init__(f"{used} of {limit}")
        self.used, self.limit = used, limit


sandboxd.register_error("shop.QuotaError", QuotaError)


def actor(**options):
    app = sandboxd.Actor(**options)

    @app.verb("double")
    def double(n: int) -> int:
        return 2 * n

    @app.verb("adouble")
    async def adouble(n: int):
        return 2 * n

    @app.verb("echo")
    def echo(x):
        return x

    @app.verb("who")
    def who():
        return [app.id, app.name, app.epoch, app.limits, app.deadline is not None, sorted(app.verbs), app.frame_cap]

    @app.verb("fail")
    async def fail(kind):
        if kind == "quota":
            raise QuotaError(5, 3)
        if kind == "exit":
            sys.exit(3)
        if kind == "denied":
            raise sandboxd.Denied("no")
        if kind == "stop":
            raise StopIteration
        if kind == "set":
            return {1, 2}
        if kind == "long":
            raise ValueError("é" * 20000)
        raise ValueError(kind)

    @app.verb("sfail")
    def sfail(kind):
        if kind == "stop":
            raise StopIteration
        if kind == "exit":
            sys.exit(3)
        raise KeyError(kind)

    @app.verb("sleep")
    async def sleep(seconds):
        await asyncio.sleep(seconds)
        return "slept"

    app.release = threading.Event()

    @app.verb("block")
    def block():
        app.release.wait(10)
        return "unblocked"

    @app.verb("deaf")
    async def deaf():
        while not app.release.is_set():
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                pass
        return "never heard"

    @app.verb("tidy")
    async def tidy():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "tidied"

    @app.verb("slowly")
    async def slowly():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
            app.cleaned = True
            return "tidied slowly"

    @app.verb("ctx")
    async def ctx():
        c = sandboxd.current()
        return [c.verb, c.headers, c.time_left() is not None]

    @app.verb("back")
    async def back(args):
        return await app.call(*args)

    @app.verb("sback")
    def sback(args):
        return app.call_sync(*args)

    @app.verb("stop")
    def stop(status):
        app.stop(status)
        return "bye"

    return app
