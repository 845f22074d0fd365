"""What a function becomes that serves a verb: how it is called, in which thread, and what payload it takes."""

from __future__ import annotations

import collections.abc
import inspect
import queue
import threading
import typing
from typing import Any, Callable, Dict, Tuple

from . import errors

_PLAIN = (bool, int, float, str, bytes, list, dict, type(None))


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type hint. Only plain msgpack types are looked at, and not what is in lists and maps."""
    origin = typing.get_origin(hint) or hint
    if origin is typing.Union or type(hint).__name__ == "UnionType":
        return any(fits(value, arg) for arg in typing.get_args(hint))
    origin = {None: type(None), tuple: list, collections.abc.Sequence: list, collections.abc.Mapping: dict}.get(origin, origin)
    if origin not in _PLAIN:
        return True
    if type(value) is bool:
        return origin is bool
    return isinstance(value, (int, float) if origin is float else (list, tuple) if origin is list else origin)


class Verb:
    """One function that serves a verb in one mode. Raises TypeError for a function that cannot."""

    def __init__(self, name: str, mode: int, fn: Callable[..., Any]) -> None:
        if not 1 <= len(name.encode()) <= 128:
            raise ValueError(f"verb {name!r}: 1 to 128 bytes")
        self.name, self.mode, self.fn = name, mode, fn
        self.agen, self.gen = inspect.isasyncgenfunction(fn), inspect.isgeneratorfunction(fn)
        self.is_async = self.agen or inspect.iscoroutinefunction(fn)
        if mode == 0 and (self.agen or self.gen):
            raise TypeError(f"verb {name!r}: a generator is a stream")
        params = list(inspect.signature(fn).parameters.values())
        places = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in params)
        some = any(p.kind == p.VAR_POSITIONAL for p in params)
        inspect.signature(fn).bind(*[None] * (mode + 1 if places > mode or some else mode))
        self.takes = places > mode or some
        try:
            hints: Dict[str, Any] = typing.get_type_hints(fn)
        except Exception:  # names that are not there at run time
            hints = {}
        self.hint = hints.get(params[mode].name, Any) if places > mode else Any
        self.gives = Any if self.agen or self.gen else hints.get("return", Any)

    def args(self, payload: Any) -> Tuple[Any, ...]:
        """The arguments after the context. Raises BadPayload."""
        if not self.takes and payload is not None or self.takes and not fits(payload, self.hint):
            raise errors.BadPayload(f"{self.name} does not take a payload of type {type(payload).__name__}")
        return (payload,) if self.takes else ()

    def fits(self, value: Any) -> bool:
        """Whether the function may return that."""
        return fits(value, self.gives)

    def run(self, args: Tuple[Any, ...]) -> Any:
        """Runs a plain function to its end; what a generator yields is sent."""
        if not self.gen:
            return self.fn(*args)
        items = self.fn(*args)
        try:
            while True:
                try:
                    item = next(items)
                except StopIteration as e:
                    return e.value
                args[0].send(item)
        finally:
            items.close()


class Pool:
    """Threads for plain functions: as many as are needed at once, at most size. They do not keep the program alive."""

    def __init__(self, size: int) -> None:
        self._size, self._threads = size, 0
        self._spare = 0  # threads that wait, less jobs that wait
        self._lock = threading.Lock()
        self._jobs: "queue.SimpleQueue[Callable[[], None]]" = queue.SimpleQueue()

    def submit(self, job: Callable[[], None]) -> None:
        """Runs job in a thread as soon as one is free. Raises RuntimeError where there is none and none can be had."""
        with self._lock:
            self._spare -= 1
            if self._spare < 0 and self._threads < self._size:
                try:
                    threading.Thread(target=self._work, name="sandboxd-verb", daemon=True).start()
                    self._threads += 1
                    self._spare += 1
                except RuntimeError:  # the sandbox's limit of processes and threads
                    if self._threads == 0:
                        self._spare += 1
                        raise
        self._jobs.put(job)

    def busy(self) -> bool:
        """Whether a job runs or waits."""
        with self._lock:
            return self._spare < self._threads

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            job()
            with self._lock:
                self._spare += 1
