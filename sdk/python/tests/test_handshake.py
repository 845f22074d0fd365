"""The handshake, and what a program registers."""

import asyncio
import socket
import threading

from .actors import QuotaError, actor
from .fake import ERROR, EXIT, HELLO, PING, RETURN, Supervisor, Test, frame, sandboxd, start, welcome


class Handshake(Test):
    def test_hello(self):
        app = actor()
        with Supervisor(app) as sup:
            self.assertEqual(sup.hello, [HELLO, 1, "python/1", list(app._server.verbs), 0])

    def test_welcome(self):
        with Supervisor(actor(), cap=5000, left=60000, limits={"memory": 1 << 40}, id="0.1", name="n", epoch=3) as sup:
            sup.send(start(2, "who"))
            self.assertEqual(sup.recv(), [RETURN, 2, ["0.1", "n", 3, {"memory": 1 << 40}, True, ["host.echo"], 5000]])

    def test_refused(self):
        with Supervisor(actor(), greet=False) as sup:
            sup.recv()
            sup.send(frame(ERROR, 0, ["sandboxd.Busy", "one is enough", "", ["", ""], [], None, None]))
            self.assertEqual(sup.end(), [])
            self.assertIsInstance(sup.join(), sandboxd.Busy)

    def test_bad_welcome(self):
        for bad in (welcome(proto=2), welcome(id=""), welcome(epoch=0), welcome(limits={"memory": -1}), start(2, "echo"),
                    frame(EXIT), frame(PING, 1), b"\x01\x40\x00\x00" + b"\xc0" * 16385, welcome(verbs=["v" * 120] * 140)):
            with self.subTest(bad=bad[:20]), Supervisor(actor(), greet=False) as sup:
                sup.recv()
                sup.send(bad)
                self.assertEnded(sup, "sandboxd.Protocol")

    def test_lost_before_welcome(self):
        with Supervisor(actor(), greet=False) as sup:
            sup.recv()
            sup.sock.close()
            self.assertIsInstance(sup.join(), sandboxd.Lost)

    def test_probe(self):
        sup, theirs = socket.socketpair()
        fake = Supervisor.__new__(Supervisor)
        fake.sock, got = sup, []
        thread = threading.Thread(target=lambda: got.append(sandboxd.probe(sock=theirs)))
        thread.start()
        self.assertEqual(fake.recv(), [HELLO, 1, "python/1", [], 1])
        sup.sendall(welcome(limits={"pids": 5}))
        self.assertEqual(fake.end(), [])
        thread.join()
        sup.close()
        self.assertEqual(got, [{"id": "7", "name": "me", "epoch": 1, "limits": {"pids": 5}, "verbs": ["host.echo"]}])

    def test_serves_once(self):
        app = actor()
        with Supervisor(app) as sup:
            sup.cancel()
            self.assertEqual(sup.join(), 0)
        with self.assertRaises(RuntimeError):
            asyncio.run(app.serve())

    def test_too_many_verbs(self):
        app = sandboxd.Actor()
        for i in range(140):
            app.verb(f"{i:0128}")(lambda: None)
        with self.assertRaises(sandboxd.BadPayload):
            asyncio.run(app.serve())

    def test_registration(self):
        app = sandboxd.Actor()
        for verb, fn, error in (("", lambda: 1, ValueError), ("v" * 129, lambda: 1, ValueError), ("two", lambda a, b: 1, TypeError),
                                ("keyword", lambda *, a: 1, TypeError)):
            with self.assertRaises(error):
                app.verb(verb)(fn)
        with self.assertRaises(TypeError):
            app.stream("none")(lambda: 1)
        app.verb("v")(lambda: 1)
        with self.assertRaises(ValueError):
            app.stream("v")(lambda ctx: 1)
        with self.assertRaises(ValueError):
            sandboxd.register_error("sandboxd.Mine", QuotaError)
