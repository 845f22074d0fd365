"""actor_under_test.py itself: every verb that does not take the whole program along, and every violation."""

import importlib.util
import os

from .fake import (CANCELACK, CREDIT, ERROR, RETURN, START, STARTACK, STARTED, STOP, YIELD, Supervisor, Test, frame, start)

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "actor_under_test.py")


def load():
    spec = importlib.util.spec_from_file_location("actor_under_test", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class UnderTest(Test):
    def test_verbs(self):
        module = load()
        with Supervisor(module.app) as sup:
            for i, (verb, payload, kind, want) in enumerate((
                    ("echo", [1], RETURN, [1]), ("double", 4, RETURN, 8), ("double", "4", ERROR, "sandboxd.BadPayload"),
                    ("fail", "value", ERROR, "ValueError"), ("fail", "quota", ERROR, "shop.QuotaError"), ("fail", "odd", ERROR, "actor_under_test.OddError"),
                    ("fail", "denied", ERROR, "sandboxd.Denied"), ("fail", "exit", ERROR, "sandboxd.Panic"), ("fail", "set", ERROR, "sandboxd.BadPayload"),
                    ("fail", "long", ERROR, "ValueError"), ("fail", "recursion", ERROR, "RecursionError"), ("sleep", 0.01, RETURN, "slept"),
                    ("block", 0.01, RETURN, "slept"), ("big", 5, RETURN, b"xxxxx"), ("big", 1 << 20, ERROR, "sandboxd.BadPayload"), ("size", b"abc", RETURN, 3),
                    ("nested", 1, RETURN, [None]), ("nested", 31, RETURN, None), ("nested", 32, ERROR, "sandboxd.BadPayload"), ("forge", None, ERROR, "sandboxd.Lost"))):
                sup.send(start(2 * i + 2, verb, payload))
                m = sup.recv()
                self.assertEqual(m[:2], [kind, 2 * i + 2], (verb, payload, m))
                if want is not None:
                    self.assertEqual(m[2][0] if kind == ERROR else m[2], want)
            sup.send(start(1000, "after-end"))
            self.assertEqual(sup.recv(), [RETURN, 1000, "first"])
            self.assertEqual(sup.recv(), [RETURN, 1000, "second"])
            self.assertEqual(sup.recv()[:2], [CANCELACK, 1000])
            self.assertEqual(sup.recv(), [RETURN, 1000, "third"])

    def test_dialogs(self):
        module = load()
        with Supervisor(module.app) as sup:
            cid = 0
            for verb, payload, items, want in (
                    ("count", 1, [1, 2], [[STARTED, {"limit": 1}], [YIELD, 2], [YIELD, 3], [RETURN, "done"]]),
                    ("scount", 1, [1, 2], [[STARTED, {"limit": 1}], [YIELD, 2], [YIELD, 3], [RETURN, "done"]]),
                    ("slow", 0.01, [b"ab", b"c"], [[STARTED, None], [RETURN, [2, 3]]]),
                    ("bidi", 2, [5, 6], [[STARTED, None], [YIELD, 0], [YIELD, 1], [STOP], [RETURN, 11]]),
                    ("late", 0.01, [], [[STARTED, "late"], [RETURN, "end"]]),
                    ("early", 7, [], [[STARTED, None], [RETURN, 7]]),
                    ("broken", 1, [], [[STARTED, None], [YIELD, 0], [ERROR, None]])):
                cid += 2
                sup.send(start(cid, verb, payload, mode=1, window=1000))
                self.assertEqual(sup.recv()[:2], [STARTACK, cid])
                sup.send(*(frame(YIELD, cid, item) for item in items), frame(STOP, cid))
                got = [sup.recv() for _ in want]
                self.assertEqual([m[:1] + m[2:] if m[0] != ERROR else [ERROR, None] for m in got], want)
            sup.send(start(100, "endless", 10, mode=1, window=200))
            self.assertEqual([sup.recv()[0] for _ in range(6)], [STARTACK, STARTED] + [YIELD] * 4)
            sup.send(frame(CREDIT, 100, 1))
            sup.send(start(102, "pipe", ["v", None], mode=1, window=200))
            self.assertEqual([sup.until(STARTACK)[1], sup.until(START)[1:4]], [102, [1, "v", 1]])
            sup.send(frame(STARTACK, 1, 100), frame(STARTED, 1, "first"))
            self.assertEqual(sup.until(STARTED), [STARTED, 102, "first"])
            sup.send(frame(YIELD, 102, "up"), frame(YIELD, 1, "down"))
            self.assertEqual(sorted([sup.until(YIELD), sup.until(YIELD)]), [[YIELD, 1, "up"], [YIELD, 102, "down"]])
            sup.send(frame(RETURN, 1, "end"))
            self.assertEqual(sup.until(RETURN), [RETURN, 102, "end"])
            sup.cancel()

    def test_violations(self):
        names = [n for n in load().app._server.verbs if n.startswith("violate:")]
        self.assertGreater(len(names), 30)
        for name in names:
            module = load()
            with self.subTest(name), Supervisor(module.app) as sup:
                sup.send(start(2, name, mode=module.app._server.verbs[name].mode, window=0 if module.app._server.verbs[name].mode == 0 else 64))
                if module.app._server.verbs[name].mode:
                    self.assertEqual(sup.recv()[0], STARTACK)
                make = {**module.VIOLATIONS, **module.DIALOG_VIOLATIONS}[name[8:]]
                self.assertEqual(sup.read(len(make(2))), make(2))


if __name__ == "__main__":
    import unittest
    unittest.main()
