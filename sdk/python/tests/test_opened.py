"""Calls that the program opens."""

import asyncio

from .actors import QuotaError
from .fake import CANCEL, CANCELACK, ERROR, PING, PONG, RETURN, START, STARTACK, STARTED, Raw, Supervisor, Test, frame, sandboxd, start


class Opened(Test):
    """Calls of the program's own, from a task that it runs besides."""

    def run_main(self, main, script, **options):
        app = sandboxd.Actor()
        box = []

        @app.verb("go")
        async def go():
            box.append(await main(app))

        with Supervisor(app, **options) as sup:
            sup.send(start(2, "go"))
            script(sup)
            last = sup.until(RETURN, ERROR)
            self.assertEqual(last[0], RETURN, last)
        return box[0]

    def test_call(self):
        def script(sup):
            self.assertEqual(sup.recv(), [START, 1, "host.echo", 0, 0, 0, {"a": "b"}, [1]])
            sup.send(frame(RETURN, 1, "back"))
        self.assertEqual(self.run_main(lambda app: app.call("host.echo", [1], headers={"a": "b"}), script), "back")

    def test_errors(self):
        async def main(app):
            out = []
            for _ in range(3):
                try:
                    await app.call("v")
                except Exception as e:
                    out.append(e)
            return out

        def script(sup):
            for cid, type_, data in ((1, "main.Odd", 7), (3, "shop.QuotaError", {"used": 1, "_x": 2}), (5, "sandboxd.NotFound", None)):
                sup.recv()
                sup.send(frame(ERROR, cid, [type_, "m", "s", ["3", "db"], [["4", "mid"]], ["5", "c"], data]))
        odd, quota, missing = self.run_main(main, script)
        self.assertIs(type(odd), sandboxd.RemoteError)
        self.assertEqual((odd.type, odd.message, odd.stack, odd.source, odd.relay, odd.canceller, odd.data),
                         ("main.Odd", "m", "s", ("3", "db"), (("4", "mid"),), ("5", "c"), 7))
        self.assertIsInstance(quota, QuotaError)
        self.assertEqual((quota.args, quota.used, vars(quota).get("_x")), (("m",), 1, None))
        self.assertEqual(quota.__cause__.type, "shop.QuotaError")
        self.assertIsInstance(missing, sandboxd.NotFound)

    def test_timeout(self):
        async def main(app):
            try:
                await app.call("v", timeout=0.1)
            except sandboxd.Deadline:
                return "late"

        def script(sup):
            m = sup.recv()
            self.assertTrue(90 <= m[4] <= 100, m)
            self.assertEqual(sup.recv()[:2], [CANCEL, 1])
            sup.send(frame(CANCELACK, 1, 0), frame(RETURN, 1, "too late"), frame(CANCELACK, 1, 1))
        self.assertEqual(self.run_main(main, script), "late")

    def test_own_mistakes(self):  # never reach the supervisor
        async def main(app):
            out = []
            for options in ({"verb": ""}, {"verb": "v" * 129}, {"headers": {"k": 1}}, {"headers": {"k" * 65: ""}}, {"payload": {1}}, {"payload": 1 << 64},
                            {"payload": b"x" * (1 << 20)}, {"payload": [0] * 65536}, {"payload": "\ud800"}, {"timeout": 0}):
                try:
                    await app.call(**{"verb": "v", **options})
                except sandboxd.RemoteError as e:
                    out.append(e.type)
            try:
                await sandboxd.current().send(1)
            except RuntimeError:
                out.append("no dialog")
            return out
        self.assertEqual(self.run_main(main, lambda sup: None), ["sandboxd.BadPayload"] * 9 + ["sandboxd.Deadline", "no dialog"])

    def test_undecodable(self):
        async def main(app):
            try:
                await app.call("v")
            except sandboxd.BadPayload:
                return "bad"

        def script(sup):
            sup.recv()
            sup.send(frame(RETURN, 1, Raw(b"\xa1\xff")))
        self.assertEqual(self.run_main(main, script), "bad")

    def test_supervisor_verbs(self):
        async def main(app):
            child = await app.spawn("worker", "w", args=["-v"], env={"A": "b"})
            out = [child.id, child.name, await child.call("v", 1), await child.wait(), await child.cancel("why")]
            out.append([p.id for p in await app.find("n")])
            return out + [(await app.await_name("n", timeout=9)).id]

        def script(sup):
            for cid, (verb, payload, answer) in enumerate((
                    ("sandboxd.spawn", {"kind": "worker", "name": "w", "args": ["-v"], "env": {"A": "b"}}, {"id": "8", "name": "w"}),
                    ("sandboxd.call", {"id": "8", "verb": "v", "payload": 1}, "x"),
                    ("sandboxd.wait", {"id": "8"}, {"reason": "exited", "code": 0, "detail": "d"}),
                    ("sandboxd.cancel", {"id": "8", "reason": "why"}, None),
                    ("sandboxd.find", {"name": "n"}, [{"id": "9", "name": "n"}]),
                    ("sandboxd.await", {"name": "n"}, {"id": "9", "name": "n"}))):
                m = sup.recv()
                self.assertEqual((m[1], m[2], m[7]), (2 * cid + 1, verb, payload))
                sup.send(frame(RETURN, m[1], answer))
        self.assertEqual(self.run_main(main, script), ["8", "w", "x", ("exited", 0, "d"), None, ["9"], "9"])

    def test_dialog_of_another(self):
        async def main(app):
            async with sandboxd.peers.Peer(app, "9", "n").open("v", 1) as stream:
                return [stream.first, await stream.result()]

        def script(sup):
            m = sup.recv()
            self.assertEqual((m[2], m[3], m[7]), ("sandboxd.open", 1, {"id": "9", "verb": "v", "payload": 1}))
            sup.send(frame(STARTACK, 1, 100), frame(STARTED, 1, "first"), frame(RETURN, 1, "result"))
        self.assertEqual(self.run_main(main, script), ["first", "result"])

    def test_lost(self):
        app, got = sandboxd.Actor(), []

        @app.verb("go")
        async def go():
            try:
                await asyncio.shield(asyncio.ensure_future(app.call("v")))
            except BaseException as e:
                got.append(e)

        with Supervisor(app) as sup:
            sup.send(start(2, "go"))
            sup.recv()
            sup.sock.close()
            sup.join()
        self.assertEqual(len(got), 1)

    def test_ping(self):
        def script(sup):
            self.assertEqual(sup.recv(), [PING, 1])
            sup.send(frame(PONG, 1))
        self.assertIsNone(self.run_main(lambda app: app.ping(), script))
