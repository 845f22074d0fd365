"""What functions take, and threads."""

import threading
import typing
import unittest
from unittest import mock

from .fake import Test, sandboxd
from sandboxd.verbs import Pool, Verb, fits


class Hints(unittest.TestCase):
    def test_fits(self):
        for hint, good, bad in ((int, [1, -1], [True, 1.0, "1", None]), (float, [1, 1.5], [True, "1"]), (bool, [True], [1, None]), (str, ["a"], [b"a", 1]),
                                (bytes, [b"a"], ["a"]), (list, [[], ()], [{}, "a"]), (typing.List[int], [[1], ["not looked at"]], [{}]),
                                (dict, [{}], [[]]), (typing.Dict[str, int], [{}], [[]]), (typing.Optional[int], [None, 1], ["a", True]),
                                (typing.Union[str, bytes], ["a", b"a"], [1]), (None, [None], [0]), (typing.Any, [1, None], []), (Hints, [1], []),
                                (typing.Sequence[int], [[1]], ["a", {}]), (typing.Mapping[str, int], [{}], [[]])):
            for value in good:
                self.assertTrue(fits(value, hint), (value, hint))
            for value in bad:
                self.assertFalse(fits(value, hint), (value, hint))

    def test_signatures(self):
        def later(x: "NotThere"):  # noqa: F821
            return x

        for mode, fn, payload, args in ((0, lambda: 1, None, ()), (0, lambda x: 1, 5, (5,)), (0, lambda x=3: 1, None, (None,)), (0, lambda *a: 1, 5, (5,)),
                                        (1, lambda ctx: 1, None, ()), (1, lambda ctx, x: 1, 5, (5,)), (0, later, 5, (5,)), (0, len, 5, (5,)),
                                        (0, [].append, 5, (5,))):
            self.assertEqual(Verb("v", mode, fn).args(payload), args)
        with self.assertRaises(sandboxd.BadPayload):
            Verb("v", 0, lambda: 1).args(5)


class Threads(Test):
    def test_as_many_as_are_needed(self):
        pool, go, done = Pool(3), threading.Event(), threading.Semaphore(0)

        def job():
            go.wait()
            done.release()
        before = threading.active_count()
        for _ in range(5):
            pool.submit(job)
        self.assertEqual(threading.active_count() - before, 3)
        self.assertTrue(pool.busy())
        go.set()
        for _ in range(5):
            self.assertTrue(done.acquire(timeout=10))
        for _ in range(20):
            pool.submit(done.release)
            self.assertTrue(done.acquire(timeout=10))
        self.assertLessEqual(threading.active_count() - before, 3)

    def test_no_threads(self):
        pool, done = Pool(3), threading.Semaphore(0)
        with mock.patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread")):
            with self.assertRaises(RuntimeError):
                pool.submit(done.release)
        pool.submit(done.release)  # one thread ...
        self.assertTrue(done.acquire(timeout=10))
        with mock.patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread")):
            for _ in range(5):  # ... does for all
                pool.submit(done.release)
        for _ in range(5):
            self.assertTrue(done.acquire(timeout=10))


if __name__ == "__main__":
    unittest.main()
