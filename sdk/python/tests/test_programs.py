"""Whole programs, by their exit status."""

import os
import socket
import subprocess
import sys
import tempfile
import time

from .fake import CANCEL, EXIT, RETURN, STARTACK, STARTED, STOP, YIELD, Supervisor, Test, frame, start, welcome


class Programs(Test):
    """Connected over a socket with a path."""

    def program(self, text, script):
        with tempfile.TemporaryDirectory() as tmp:
            path = os.path.join(tmp, "peer.sock")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen(1)
            listener.settimeout(20)
            here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
            env = dict(os.environ, SANDBOXD_PEER=path, PYTHONPATH=os.pathsep.join([here, *sys.path]))
            program = subprocess.Popen([sys.executable, "-c", text], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                sup = Supervisor.__new__(Supervisor)
                sup.sock = listener.accept()[0]
                sup.sock.settimeout(20)
                sup.recv()
                sup.send(welcome())
                script(sup)
                out, err = program.communicate(timeout=20)
            finally:
                program.kill()
                program.communicate()
                sup.sock.close()
                listener.close()
            return program.returncode, out.decode(), err.decode()

    TEXT = """
import sandboxd, time, asyncio, sys
app = sandboxd.Actor()
@app.verb("spin")
def spin():
    while True: pass
@app.verb("block")
def block():
    print("blocked", flush=False)
    time.sleep(60)
@app.verb("deaf")
async def deaf():
    while True:
        try: await asyncio.sleep(60)
        except asyncio.CancelledError: pass
@app.verb("echo")
def echo(x): return x
"""

    def test_cancelled(self):
        for verbs in ([], ["spin", "spin"], ["block"], ["deaf"], ["echo"]):
            with self.subTest(verbs=verbs):
                def script(sup):
                    for i, verb in enumerate(verbs):
                        sup.send(start(2 * i + 2, verb))
                    time.sleep(0.2)
                    sup.send(frame(CANCEL, 0, ["", ""], "", 1000))
                    self.begin = time.monotonic()
                    self.assertEqual(sup.end()[-1], [EXIT])
                code, out, err = self.program(self.TEXT + "app.run()", script)
                self.assertEqual((code, err), (0, ""))
                self.assertLess(time.monotonic() - self.begin, 10)
                self.assertEqual(out, "blocked\n" if verbs == ["block"] else "")

    def test_lost(self):
        code, _, err = self.program(self.TEXT + "app.run()", lambda sup: sup.sock.close())
        self.assertEqual(code, 1)
        self.assertIn("lost", err)

    def test_violation(self):
        def script(sup):
            sup.send(frame(99))
            self.assertEqual(sup.end()[0][2][0], "sandboxd.Protocol")
        self.assertEqual(self.program(self.TEXT + "app.run()", script)[0], 1)

    def test_main(self):
        def script(sup):
            sup.send(frame(RETURN, sup.recv()[1], "hi"))
            self.assertEqual(sup.end(), [[EXIT]])
        text = self.TEXT + "async def main(): print(await app.call('host.echo'))\napp.run(main)"
        self.assertEqual(self.program(text, script), (0, "hi\n", ""))
        text = self.TEXT + "async def main(): raise ValueError(await app.call('host.echo'))\napp.run(main)"
        code, _, err = self.program(text, script)
        self.assertEqual(code, 1)
        self.assertIn("ValueError: hi", err)

    def test_readme(self):
        def script(sup):
            sup.send(start(2, "double", 21), start(4, "count", 9, mode=1, window=100))
            got = sorted((sup.recv() for _ in range(3)), key=lambda m: m[0])
            self.assertEqual(got, [[STARTACK, 4, 65536], [STARTED, 4, {"limit": 9}], [RETURN, 2, 42]])
            sup.send(frame(YIELD, 4, 1), frame(STOP, 4))
            self.assertEqual([sup.recv(), sup.recv()], [[YIELD, 4, 2], [RETURN, 4, "done"]])
            sup.send(frame(CANCEL, 0, ["", ""], "", 1000))
            self.assertEqual(sup.end()[-1], [EXIT])
        with open(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "README.md")) as f:
            text = f.read().split("```python\n")[1].split("```")[0]
        self.assertEqual(self.program(text, script), (0, "", ""))

    def test_nobody(self):
        env = dict(os.environ, SANDBOXD_PEER="/nonexistent/peer.sock", PYTHONPATH=os.pathsep.join(sys.path))
        p = subprocess.run([sys.executable, "-c", self.TEXT + "app.run()"], env=env, stderr=subprocess.PIPE, timeout=20)
        self.assertEqual(p.returncode, 1)
        self.assertIn(b"sandboxd: ", p.stderr)
