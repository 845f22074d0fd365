"""Calls with one answer that the actor serves: values, errors, cancellation, the end."""

import time

from .actors import actor
from .fake import CANCEL, CANCELACK, ERROR, EXIT, PING, PONG, RETURN, START, Raw, Supervisor, Test, frame, sandboxd, start


class Calls(Test):
    def setUp(self):
        super().setUp()
        self.app = actor()
        self.sup = Supervisor(self.app)
        self.addCleanup(self.sup.__exit__)
        self.addCleanup(self.app.release.set)
        self.cid = 0

    def ask(self, verb, payload=None, **options):
        self.cid += 2
        self.sup.send(start(self.cid, verb, payload, **options))
        answer = self.sup.recv()
        self.assertEqual(answer[1], self.cid)
        return answer[0], answer[2]

    def error(self, verb, payload=None, **options):
        kind, e = self.ask(verb, payload, **options)
        self.assertEqual(kind, ERROR)
        self.assertEqual(len(e), 7)
        return e

    def test_values(self):
        for v in (None, True, 0, -1, 127, 128, -33, 1 << 63, -(1 << 63), 1.5, "", "é" * 40, b"", b"x" * 300, [], [1, [2]], {"a": {"b": []}},
                  {1: 2, b"k": 3}, list(range(20)), Raw(b"\xd6\xff\x00\x00\x00\x01")):
            self.assertEqual(self.ask("echo", v), (RETURN, v))

    def test_other_forms(self):  # any valid form is accepted; we write the shortest
        self.assertEqual(self.ask("echo", Raw(b"\xcf\0\0\0\0\0\0\0\5")), (RETURN, 5))
        self.assertEqual(self.ask("echo", Raw(b"\xdb\0\0\0\1a")), (RETURN, "a"))
        self.assertEqual(self.ask("echo", Raw(b"\xca\x3f\x80\0\0")), (RETURN, 1.0))
        body = b"\xdd\0\0\0\2\xcd\0\x1c\xcf\0\0\0\0\0\0\0\7"
        self.sup.send(len(body).to_bytes(4, "little") + body)
        self.assertEqual(self.sup.recv(), [PONG, 7])

    def test_functions(self):
        self.assertEqual(self.ask("double", 21), (RETURN, 42))
        self.assertEqual(self.ask("adouble", 21), (RETURN, 42))
        self.assertEqual(self.ask("ctx", headers={"traceparent": "00"}), (RETURN, ["ctx", {"traceparent": "00"}, False]))
        self.assertEqual(self.ask("ctx", left=60000), (RETURN, ["ctx", {}, True]))

    def test_bad_payloads(self):
        for verb, payload in (("double", "x"), ("double", True), ("double", 1.0), ("adouble", None), ("who", 1),
                              ("echo", Raw(b"\xa1\xff")), ("echo", Raw(b"\x81\x90\x00")), ("echo", Raw(b"\x81\xcb\x7f\xf8\0\0\0\0\0\0\x00"))):
            self.assertEqual(self.error(verb, payload)[0], "sandboxd.BadPayload")
        self.assertEqual(self.error("fail", "set")[0], "sandboxd.BadPayload")

    def test_wrong_verbs(self):
        self.assertEqual(self.error("nope")[0], "sandboxd.UnknownVerb")
        self.assertEqual(self.error("echo", mode=1, window=100)[0], "sandboxd.WrongMode")

    def test_errors(self):
        type_, message, stack, source, relay, canceller, data = self.error("fail", "value")
        self.assertEqual((type_, message, source, relay, canceller, data), ("ValueError", "value", ["7", "me"], [], None, None))
        self.assertIn("in fail", stack)
        self.assertNotIn("actor.py", stack)
        self.assertEqual(self.error("fail", "quota")[:2], ["shop.QuotaError", "5 of 3"])
        self.assertEqual(self.error("fail", "quota")[6], {"used": 5, "limit": 3})
        self.assertEqual(self.error("fail", "denied")[:2], ["sandboxd.Denied", "no"])
        self.assertEqual(self.error("fail", "exit")[:2], ["sandboxd.Panic", "SystemExit: 3"])
        self.assertEqual(self.error("fail", "stop")[0], "RuntimeError")
        self.assertEqual(self.error("fail", "long")[1], "é" * 8192)
        self.assertEqual(self.error("sfail", "x")[:2], ["KeyError", "'x'"])
        self.assertEqual(self.error("sfail", "stop")[0], "RuntimeError")
        self.assertEqual(self.error("sfail", "exit")[:2], ["sandboxd.Panic", "SystemExit: 3"])

    def test_ping(self):
        self.sup.send(start(2, "block"), frame(PING, 1 << 53))
        self.assertEqual(self.sup.recv(), [PONG, 1 << 53])

    def test_cancel(self):
        by = [CANCEL, 0, ["1", "boss"], "enough", 500]
        for cid, verb, payload in ((2, "sleep", 60), (4, "block", None), (6, "deaf", None)):
            with self.subTest(verb=verb):
                self.sup.send(start(cid, verb, payload))
                self.sup.quiet(0.1)
                self.sup.send(frame(CANCEL, cid, *by[2:]))
                begin = time.monotonic()
                self.assertEqual(self.sup.recv(), [CANCELACK, cid, 0])
                self.assertEqual(self.sup.recv(), [ERROR, cid, ["sandboxd.Cancelled", "enough", "", ["7", "me"], [], ["1", "boss"], None]])
                self.assertEqual(time.monotonic() - begin > 0.4, verb == "deaf")
                self.sup.send(frame(CANCEL, cid, *by[2:]))
                self.assertEqual(self.sup.recv(), [CANCELACK, cid, 1])
        self.app.release.set()  # what the abandoned ones give is dropped
        self.sup.quiet()

    def test_cancel_in_the_queue(self):
        app = actor(threads=1)
        with Supervisor(app) as sup:
            sup.send(start(2, "block"), start(4, "double", 1), frame(CANCEL, 4, ["", ""], "", 0))
            self.assertEqual([sup.recv()[:2], sup.recv()[:2]], [[CANCELACK, 4], [ERROR, 4]])
            app.release.set()
            self.assertEqual(sup.recv(), [RETURN, 2, "unblocked"])

    def test_cancel_early_and_twice(self):
        cancel = frame(CANCEL, 2, ["", ""], "", 0)
        self.sup.send(start(2, "sleep", 60) + cancel)  # before the function begins
        self.assertEqual(self.sup.recv(), [CANCELACK, 2, 0])
        self.assertEqual(self.sup.recv()[2][0], "sandboxd.Cancelled")
        self.sup.send(start(4, "tidy"))
        self.sup.quiet(0.1)
        cancel = frame(CANCEL, 4, ["", ""], "", 1000)
        self.sup.send(cancel + cancel)
        self.assertEqual([self.sup.recv() for _ in range(3)], [[CANCELACK, 4, 0], [CANCELACK, 4, 0], [RETURN, 4, "tidied"]])

    def test_deadline(self):
        for cid, verb, payload in ((2, "sleep", 60), (4, "block", None), (6, "deaf", None)):
            self.sup.send(start(cid, verb, payload, left=80))
            self.assertEqual(self.sup.recv()[2][0], "sandboxd.Deadline")
        self.app.release.set()
        self.sup.quiet()

    def test_thousand(self):
        ids = range(2, 2002, 2)
        self.sup.send(*(start(cid, ("echo", "adouble", "sleep")[cid % 3], (cid, cid, 0.01)[cid % 3]) for cid in ids))
        got = dict(self.sup.recv()[1:] for _ in ids)
        self.assertEqual(got, {cid: (cid, 2 * cid, "slept")[cid % 3] for cid in ids})

    def test_big(self):
        big = b"x" * ((1 << 20) - 17)  # in a START, exactly the cap
        for payload in (big, "y" * len(big)):
            self.assertEqual(self.ask("echo", payload), (RETURN, payload))
        self.assertEqual(self.ask("echo", list(range(65000)))[0], RETURN)

    def test_relay(self):
        error = ["shop.QuotaError", "9 of 8", "far away", ["3", "db"], [["4", "mid"]], None, {"used": 9, "limit": 8}]
        for cid, verb in ((2, "back"), (4, "sback")):
            self.sup.send(start(cid, verb, ["host.echo", 1]))
            m = self.sup.recv()
            self.assertEqual(m, [START, cid - 1, "host.echo", 0, 0, 0, {}, 1])
            self.sup.send(frame(ERROR, cid - 1, error))
            self.assertEqual(self.sup.recv(), [ERROR, cid, error[:4] + [[["4", "mid"], ["7", "me"]]] + error[5:]])
            self.sup.send(frame(PING, 1))
            self.sup.recv()

    def test_inherited_deadline(self):
        self.sup.send(start(2, "back", ["host.echo", 1], left=60000))
        left = self.sup.recv()[4]
        self.assertTrue(50000 < left <= 60000, left)

    def test_cancel_travels(self):
        for cid, verb in ((2, "back"), (4, "sback")):
            self.sup.send(start(cid, verb, ["host.echo", 1]))
            self.sup.recv()
            self.sup.send(frame(CANCEL, cid, ["1", "boss"], "", 1000))
            got = sorted(self.sup.recv()[:2] for _ in range(3))
            self.assertEqual(got, [[ERROR, cid], [CANCEL, cid - 1], [CANCELACK, cid]])

    def test_end(self):
        self.sup.send(start(2, "sleep", 60), start(4, "block"), start(6, "deaf"))
        self.sup.quiet(0.1)
        self.sup.send(frame(CANCEL, 0, ["1", "boss"], "enough", 800), start(8, "echo"))
        self.assertEqual(self.sup.recv(), [CANCELACK, 0, 0])
        got = self.sup.end()
        self.assertEqual(got.pop(), [EXIT])
        self.assertEqual(sorted(m[1] for m in got), [2, 4, 6, 8])
        for m in got:
            self.assertEqual((m[0], m[2][0], m[2][5]), (ERROR, "sandboxd.Cancelled", ["1", "boss"]))
        self.app.release.set()
        self.assertEqual(self.sup.join(), 0)

    def test_cleaning_up_takes_time(self):
        self.sup.send(start(2, "slowly"))
        self.sup.quiet(0.1)
        self.assertEqual(self.sup.cancel(2000), [[CANCELACK, 0, 0], [RETURN, 2, "tidied slowly"]])
        self.assertEqual(self.sup.join(), 0)

    def test_cleaning_up_when_lost(self):
        self.sup.send(start(2, "slowly"))
        self.sup.quiet(0.1)
        self.sup.sock.close()
        self.assertIsInstance(self.sup.join(), sandboxd.Lost)
        self.assertTrue(self.app.cleaned)

    def test_huge_times(self):
        self.sup.send(start(2, "echo", 1, left=1 << 53), start(4, "sleep", 60), frame(CANCEL, 4, ["", ""], "", 1 << 53))
        got = sorted(self.sup.recv()[:2] for _ in range(3))
        self.assertEqual(got, [[RETURN, 2], [ERROR, 4], [CANCELACK, 4]])
        self.assertEqual(self.sup.cancel(1 << 53), [[CANCELACK, 0, 0]])

    def test_stop(self):
        self.sup.send(start(2, "stop", 3))
        self.assertEqual(self.sup.end(), [[RETURN, 2, "bye"], [EXIT]])
        self.assertEqual(self.sup.join(), 3)

    def test_lost(self):
        self.sup.send(start(2, "sleep", 60), start(4, "back", ["host.echo"]))
        self.sup.recv()
        self.sup.sock.close()
        self.assertIsInstance(self.sup.join(), sandboxd.Lost)

    def test_closed_by_supervisor(self):
        self.sup.send(frame(ERROR, 0, ["sandboxd.Protocol", "you", "", ["", ""], [], None, None]))
        self.assertEqual(self.sup.end(), [])
        self.assertIn("you", str(self.sup.join()))


class Busy(Test):
    def test_max_calls(self):
        app = actor(max_calls=2, threads=1)
        with Supervisor(app) as sup:
            sup.send(start(2, "block"), start(4, "echo", 1), start(6, "echo", 2))
            self.assertEqual(sup.recv()[2][0], "sandboxd.Busy")
            app.release.set()  # one thread: the calls queue
            self.assertEqual([sup.recv(), sup.recv()], [[RETURN, 2, "unblocked"], [RETURN, 4, 1]])
