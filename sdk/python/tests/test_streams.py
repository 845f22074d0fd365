"""Dialogs that the actor serves, and dialogs that it opens: windows, STOP, ends."""

import asyncio
import time

from .fake import (CANCEL, CANCELACK, CREDIT, ERROR, RETURN, START, STARTACK, STARTED, STOP, YIELD, Supervisor, Test, frame, sandboxd, start)


class Served(Test):
    def serve(self, fn, window=1 << 16, theirs=1 << 16, payload=None, left=0):
        """A supervisor that has started a dialog with fn, number 2, and has seen STARTACK."""
        app = sandboxd.Actor(window=window)
        app.stream("v")(fn)
        sup = Supervisor(app)
        self.addCleanup(sup.__exit__)
        sup.send(start(2, "v", payload, mode=1, window=theirs, left=left))
        self.assertEqual(sup.recv(), [STARTACK, 2, window])
        return sup

    def test_count(self):
        async def acount(ctx, limit):
            await ctx.started({"limit": limit})
            async for item in ctx:
                await ctx.send(item + 1)
            return "done"

        def scount(ctx, limit):
            ctx.started({"limit": limit})
            for item in ctx:
                ctx.send(item + 1)
            return "done"

        for fn in (acount, scount):
            with self.subTest(fn=fn.__name__):
                sup = self.serve(fn, payload=9)
                self.assertEqual(sup.recv(), [STARTED, 2, {"limit": 9}])
                for i in range(50):
                    sup.send(frame(YIELD, 2, i))
                    self.assertEqual(sup.recv(), [YIELD, 2, i + 1])
                sup.send(frame(STOP, 2))
                self.assertEqual(sup.recv(), [RETURN, 2, "done"])
                sup.send(frame(YIELD, 2, 1), frame(CREDIT, 2, 1), frame(STOP, 2))  # crossed the end
                sup.quiet(0.1)

    def test_generators(self):
        async def agen(ctx, n):
            for i in range(n):
                yield i

        def gen(ctx, n):
            for i in range(n):
                yield i
            return "all"

        for fn, result in ((agen, None), (gen, "all")):
            sup = self.serve(fn, payload=3)
            self.assertEqual([sup.recv() for _ in range(5)],
                             [[STARTED, 2, None], [YIELD, 2, 0], [YIELD, 2, 1], [YIELD, 2, 2], [RETURN, 2, result]])

    def test_early_ends(self):
        async def returns(ctx):
            return 7

        async def fails(ctx):
            raise ValueError("early")

        self.assertEqual([m for s in [self.serve(returns)] for m in (s.recv(), s.recv())], [[STARTED, 2, None], [RETURN, 2, 7]])
        self.assertEqual(self.serve(fails).recv()[2][:2], ["ValueError", "early"])

    def test_misuse(self):
        async def misuse(ctx):
            out = []
            await ctx.started()
            for again in (ctx.started, ctx.stop, ctx.stop, lambda: ctx.send(1), lambda: ctx.send({1})):
                try:
                    await again()
                except Exception as e:
                    out.append(type(e).__name__)
            return out

        sup = self.serve(misuse)
        self.assertEqual([sup.recv() for _ in range(3)], [[STARTED, 2, None], [STOP, 2], [RETURN, 2, ["RuntimeError", "RuntimeError", "BadPayload"]]])

    def test_bad_item(self):
        async def take(ctx):
            return await ctx.recv()

        sup = self.serve(take)
        body = bytes([0x93, YIELD, 2, 0xA1, 0xFF])
        sup.send(len(body).to_bytes(4, "little") + body)
        self.assertEqual(sup.until(ERROR)[2][0], "sandboxd.BadPayload")

    def test_writer_waits(self):
        async def endless(ctx):
            i = 0
            while True:
                yield i
                i += 1

        for window, first in ((1, 1), (64, 1), (65, 2), (1000, 16)):
            sup = self.serve(endless, theirs=window)
            self.assertEqual(sup.recv(), [STARTED, 2, None])
            self.assertEqual([sup.recv()[2] for _ in range(first)], list(range(first)))
            sup.quiet(0.1)
            short = window - 64 * first  # at most 0
            if short < 0:
                sup.send(frame(CREDIT, 2, -short))  # brings it to 0, which is not enough
                sup.quiet(0.1)
            sup.send(frame(CREDIT, 2, 1))
            self.assertEqual(sup.recv(), [YIELD, 2, first])
            sup.quiet(0.1)

    def test_window_zero(self):
        async def one(ctx):
            await ctx.send(1)

        sup = self.serve(one, theirs=0)
        self.assertEqual(sup.recv(), [STARTED, 2, None])
        sup.quiet(0.1)
        sup.send(frame(CREDIT, 2, 1))
        self.assertEqual([sup.recv(), sup.recv()], [[YIELD, 2, 1], [RETURN, 2, None]])

    def test_big_item_overdraws(self):
        async def big(ctx):
            await ctx.send(b"x" * 5000)
            await ctx.send(1)

        sup = self.serve(big, theirs=1)
        sup.recv()
        self.assertEqual(len(sup.recv()[2]), 5000)
        sup.send(frame(CREDIT, 2, 5002))  # the cost is 5003: a head of 3 bytes
        sup.quiet(0.1)
        sup.send(frame(CREDIT, 2, 1))
        self.assertEqual(sup.recv(), [YIELD, 2, 1])

    def test_reader_gives_back(self):
        async def take(ctx, n):
            await ctx.started()
            for _ in range(n):
                await ctx.recv()
            await asyncio.sleep(60)

        sup = self.serve(take, window=1024, payload=7)
        sup.recv()
        sup.send(*(frame(YIELD, 2, i) for i in range(16)))  # the whole window
        self.assertEqual(sup.recv(), [CREDIT, 2, 256])  # seven are taken; a quarter is four
        sup.quiet(0.1)
        sup.send(*(frame(YIELD, 2, i) for i in range(4)))
        sup.quiet(0.1)
        sup.send(frame(YIELD, 2, 1))
        self.assertEnded(sup, "sandboxd.Protocol")

    def test_started_by_itself(self):
        async def first(ctx):
            await asyncio.gather(ctx.recv(), ctx.recv(), ctx.send(1), ctx.send(2))

        sup = self.serve(first)
        self.assertEqual(sup.recv(), [STARTED, 2, None])  # once, before anything is received
        self.assertEqual([sup.recv(), sup.recv()], [[YIELD, 2, 1], [YIELD, 2, 2]])
        sup.send(frame(YIELD, 2, 1) * 2)
        self.assertEqual(sup.recv(), [RETURN, 2, None])

    def test_stop_both_ways(self):
        async def half(ctx):
            await ctx.send(1)
            await ctx.stop()
            return [item async for item in ctx]

        sup = self.serve(half)
        self.assertEqual([sup.recv() for _ in range(3)], [[STARTED, 2, None], [YIELD, 2, 1], [STOP, 2]])
        sup.send(frame(YIELD, 2, "a"), frame(YIELD, 2, "b"), frame(STOP, 2))
        self.assertEqual(sup.recv(), [RETURN, 2, ["a", "b"]])

    def test_stop_before_it_begins(self):
        async def rest(ctx):
            return [item async for item in ctx]

        app = sandboxd.Actor()
        app.stream("v")(rest)
        with Supervisor(app) as sup:
            sup.send(start(2, "v", mode=1, window=1) + frame(STOP, 2))
            self.assertEqual([sup.recv() for _ in range(3)], [[STARTACK, 2, 65536], [STARTED, 2, None], [RETURN, 2, []]])

    def test_cancel(self):
        async def waits(ctx):
            await ctx.recv()

        async def writes(ctx):
            while True:
                await ctx.send(0)

        def swaits(ctx):
            ctx.recv()

        def swrites(ctx):
            while True:
                ctx.send(0)

        for fn in (waits, writes, swaits, swrites):
            with self.subTest(fn=fn.__name__):
                sup = self.serve(fn, theirs=64)
                time.sleep(0.1)
                sup.send(frame(CANCEL, 2, ["1", "boss"], "stop it", 1000))
                self.assertEqual(sup.until(CANCELACK), [CANCELACK, 2, 0])
                self.assertEqual(sup.recv()[2][:2], ["sandboxd.Cancelled", "stop it"])
                sup.send(frame(CREDIT, 2, 1000))
                sup.quiet(0.1)
                self.assertEqual(sup.cancel(), [[CANCELACK, 0, 0]])

    def test_cancel_when_nobody_reads(self):
        async def floods(ctx):
            while True:
                await ctx.send(b"x" * 100000)

        sup = self.serve(floods, theirs=1 << 40)
        time.sleep(0.3)
        sup.send(frame(CANCEL, 2, ["1", "boss"], "", 5000))
        got = [sup.recv()]
        while got[-1][0] != ERROR:
            got.append(sup.recv())
        self.assertEqual([m[0] for m in got[-2:]], [CANCELACK, ERROR])
        self.assertLess(len(got), 40)
        self.assertEqual(sup.cancel(), [[CANCELACK, 0, 0]])

    def test_deadline(self):
        async def waits(ctx):
            await ctx.recv()

        self.assertEqual(self.serve(waits, left=100).until(ERROR)[2][0], "sandboxd.Deadline")


class Opened(Test):
    def play(self, main, script, **options):
        """Runs main(app) in an actor against a script for its supervisor, and returns what it gave."""
        app = sandboxd.Actor(**options)
        got = []

        @app.verb("go")
        async def go():
            got.append(await main(app))

        @app.verb("sgo")
        def sgo():
            got.append(main(app))

        with Supervisor(app) as sup:
            sup.send(start(2, "go" if asyncio.iscoroutinefunction(main) else "sgo"))
            script(sup)
            last = sup.until(RETURN, ERROR)
            self.assertEqual(last[:2], [RETURN, 2], last)
        return got[0]

    @staticmethod
    def counter(sup):
        """What serves count: takes three items, gives each plus 1."""
        m = sup.recv()
        assert m[:5] == [START, 1, "count", 1, 0], m
        sup.send(frame(STARTACK, 1, 64), frame(STARTED, 1, "go"))
        for _ in range(3):
            sup.send(frame(YIELD, 1, sup.until(YIELD)[2] + 1), frame(CREDIT, 1, 64))
        sup.until(STOP)
        sup.send(frame(STOP, 1), frame(RETURN, 1, "done"))

    def test_count(self):
        async def main(app):
            async with app.open("count", 5) as stream:
                out = [stream.first]
                for i in range(3):
                    await stream.send(i)
                await stream.stop()
                out += [item async for item in stream]
                return out + [await stream.result()]

        def smain(app):
            with app.open_sync("count", 5) as stream:
                out = [stream.first]
                for i in range(3):
                    stream.send(i)
                stream.stop()
                out += list(stream)
                return out + [stream.result()]

        for fn in (main, smain):
            self.assertEqual(self.play(fn, self.counter), ["go", 1, 2, 3, "done"])

    def test_slow_reader(self):
        async def main(app):
            async with app.open("v", window=256) as stream:
                got = 0
                async for _ in stream:
                    got += 1
                return got

        def script(sup):
            self.assertEqual(sup.recv()[5], 256)
            sup.send(frame(STARTACK, 1, 0), frame(STARTED, 1, None))
            credit, sent = 256, 0
            while sent < 100:
                while credit > 0 and sent < 100:
                    sup.send(frame(YIELD, 1, 0))
                    credit, sent = credit - 64, sent + 1
                if credit <= 0:
                    got = sup.until(CREDIT)[2]
                    self.assertGreaterEqual(got, 64)
                    credit += got
            sup.send(frame(RETURN, 1, None))
        self.assertEqual(self.play(main, script), 100)

    def test_overrun(self):
        async def main(app):
            async with app.open("v", window=64):
                await asyncio.sleep(60)

        app = sandboxd.Actor()
        app.verb("go")(lambda: None)
        app.verb("open")(self.opener(app, main))
        with Supervisor(app) as sup:
            sup.send(start(2, "open"))
            sup.recv()
            sup.send(frame(STARTACK, 1, 0), frame(STARTED, 1, None), frame(YIELD, 1, b"x" * 100), frame(YIELD, 1, 0))
            self.assertEnded(sup, "sandboxd.Protocol")

    @staticmethod
    def opener(app, main):
        async def go():
            await main(app)
        return go

    def test_leaving_cancels(self):
        async def main(app):
            async with app.open("v", window=1000) as stream:
                async for item in stream:
                    return item

        def script(sup):
            sup.recv()
            sup.send(frame(STARTACK, 1, 0), frame(STARTED, 1, None), frame(YIELD, 1, "first"), frame(YIELD, 1, "second"))
            self.assertEqual(sup.recv()[:2], [CANCEL, 1])
            sup.send(frame(YIELD, 1, "third"), frame(CANCELACK, 1, 0),
                     frame(ERROR, 1, ["sandboxd.Cancelled", "", "", ["", ""], [], ["7", "me"], None]))
        self.assertEqual(self.play(main, script), "first")

    def test_error_after_items(self):
        async def main(app):
            out = []
            async with app.open("v") as stream:
                try:
                    async for item in stream:
                        out.append(item)
                except sandboxd.RemoteError as e:
                    out.append(e.type)
                for again in (stream.recv, stream.result, lambda: stream.send(1)):
                    try:
                        await again()
                    except sandboxd.RemoteError as e:
                        out.append(e.type)
            return out

        def script(sup):
            sup.recv()
            sup.send(frame(STARTACK, 1, 0), frame(STARTED, 1, None), frame(YIELD, 1, 1), frame(YIELD, 1, 2),
                     frame(ERROR, 1, ["main.Bad", "m", "", ["", ""], [], None, None]))
        self.assertEqual(self.play(main, script), [1, 2] + ["main.Bad"] * 4)

    def test_unseen_error(self):
        async def main(app):
            try:
                async with app.open("v"):
                    await asyncio.sleep(0.1)
            except sandboxd.RemoteError as e:
                return e.type

        def script(sup):
            sup.recv()
            sup.send(frame(STARTACK, 1, 0), frame(STARTED, 1, None), frame(ERROR, 1, ["main.Bad", "", "", ["", ""], [], None, None]))
        self.assertEqual(self.play(main, script), "main.Bad")

    def test_refused(self):
        async def main(app):
            try:
                async with app.open("v"):
                    return "opened"
            except sandboxd.UnknownVerb:
                return "refused"

        def script(sup):
            sup.recv()
            sup.send(frame(ERROR, 1, ["sandboxd.UnknownVerb", "", "", ["", ""], [], None, None]))
        self.assertEqual(self.play(main, script), "refused")

    def test_early_return(self):
        async def main(app):
            async with app.open("v") as stream:
                items = [item async for item in stream]
                try:
                    await stream.send(1)
                except EOFError:
                    items.append("eof")
                return items + [stream.first, await stream.result()]

        def script(sup):
            sup.recv()
            sup.send(frame(RETURN, 1, "early"))
        self.assertEqual(self.play(main, script), ["eof", None, "early"])

    def test_result_drops_items(self):
        async def main(app):
            async with app.open("v", window=64) as stream:
                return await stream.result()

        def script(sup):
            sup.recv()
            sup.send(frame(STARTACK, 1, 0), frame(STARTED, 1, None))
            self.assertEqual(sup.recv(), [STOP, 1])
            for _ in range(5):
                sup.send(frame(YIELD, 1, 0))
                self.assertEqual(sup.recv(), [CREDIT, 1, 64])
            sup.send(frame(RETURN, 1, "end"))
        self.assertEqual(self.play(main, script), "end")

    def test_timeout(self):
        async def main(app):
            out = []
            for seconds in (0.1, 0.2):  # before the first value, and in the dialog
                try:
                    async with app.open("v", timeout=seconds) as stream:
                        await stream.recv()
                except sandboxd.Deadline:
                    out.append("late")
            return out

        def script(sup):
            sup.recv()
            self.assertEqual(sup.recv()[:2], [CANCEL, 1])
            self.assertEqual(sup.recv()[:2], [START, 3])
            sup.send(frame(STARTACK, 3, 0), frame(STARTED, 3, None))
            self.assertEqual(sup.recv()[:2], [CANCEL, 3])
            sup.send(frame(CANCELACK, 1, 0))
        self.assertEqual(self.play(main, script), ["late", "late"])

    def test_many_writers(self):
        async def main(app):
            async with app.open("v") as stream:
                await asyncio.gather(*(stream.send(i) for i in range(100)))
                return await stream.result()

        def script(sup):
            sup.recv()
            sup.send(frame(STARTACK, 1, 1), frame(STARTED, 1, None))
            got = []
            while len(got) < 100:
                got.append(sup.recv()[2])
                sup.send(frame(CREDIT, 1, 64))
            self.assertEqual(sorted(got), list(range(100)))
            self.assertEqual(sup.recv(), [STOP, 1])
            sup.send(frame(RETURN, 1, None))
        self.assertIsNone(self.play(main, script))

    def test_nobody_reads(self):  # what waits to be sent is bounded
        async def main(app):
            async with app.open("v") as stream:
                for i in range(200):
                    await stream.send(b"x" * 100000)
                    self.sent = i
                return await stream.result()

        def script(sup):
            sup.recv()
            sup.send(frame(STARTACK, 1, 1 << 40), frame(STARTED, 1, None))
            time.sleep(0.5)
            self.assertLess(self.sent, 20)
            for _ in range(200):
                self.assertEqual(sup.recv()[0], YIELD)
            self.assertEqual(sup.recv(), [STOP, 1])
            sup.send(frame(RETURN, 1, None))
        self.assertIsNone(self.play(main, script))
