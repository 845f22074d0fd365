"""One call, seen from either side: Context is what a verb's function gets, Stream what open() gives."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import inspect
import time
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Iterator, List, Optional, Set, TypeVar

from . import errors, wire

if TYPE_CHECKING:
    from .actor import Actor

_D = TypeVar("_D", bound="Dialog")
_current: contextvars.ContextVar[Optional["Context"]] = contextvars.ContextVar("sandboxd", default=None)


def current() -> Optional["Context"]:
    """The call that the running function serves, or None. Works in async and plain functions of both modes."""
    return _current.get()


class Dialog:
    """What both sides of a call have: items both ways, within the windows, and an end."""

    verb: str
    """The verb that was called."""
    deadline: Optional[float]
    """When the call ends at the latest, on the clock of time.monotonic(), in seconds; None = never."""

    def __init__(self, app: "Actor", verb: str, mode: int, window: int, deadline: Optional[float]) -> None:
        self.verb, self.deadline = verb, deadline
        self._app, self._conn, self._mode, self._window = app, app._conn, mode, window
        self._cid = 0
        self._credit = 0  # bytes that we may send, below 0 for the rest of an item
        self._grant = 0  # bytes that the other side may send
        self._owed = 0  # bytes taken by the consumer and not yet given back
        self._items: Deque[bytes] = collections.deque()
        self._drop = False  # nobody wants the items
        self._acked = self._begun = False  # STARTACK, STARTED
        self._sent_stop = self._seen_stop = self._over = False
        self._timers: List[asyncio.TimerHandle] = []
        self._waiters: Set["asyncio.Future[None]"] = set()
        self._turn = asyncio.Lock()  # of those who send

    def time_left(self) -> Optional[float]:
        """Seconds until the deadline, 0 when it has passed; None = there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    async def send(self, item: Any) -> None:
        """Sends an item; waits while the other side is not ready to hold more.

        Raises BadPayload if the item cannot travel, RuntimeError after stop(), and when the call has ended: EOFError
        after its return, else its error.
        """
        raw = wire.dumps(item)
        await self._before_use()
        async with self._turn:
            self._check()
            await self._until(lambda: self._credit > 0 or self._over)
            await self._conn.gate()
            self._check()
            body = wire.body(wire.YIELD, self._cid, raw=raw, cap=self._conn.cap)
            self._credit -= wire.cost(raw)
            self._conn.write(body)

    async def recv(self) -> Any:
        """The next item. Raises EOFError when the other side sends no more, and the call's error if it ended by one."""
        await self._before_use()
        await self._until(lambda: bool(self._items) or self._seen_stop or self._over)
        if not self._items:
            self._raise_error()
            raise EOFError("no more items")
        raw = self._items.popleft()
        self._owe(wire.cost(raw))
        return wire.loads(raw)

    def __aiter__(self: _D) -> _D:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.recv()
        except EOFError:
            raise StopAsyncIteration from None

    async def stop(self) -> None:
        """Says that this side sends no more; receiving goes on. The second time it does nothing."""
        await self._before_use()
        async with self._turn:
            if not self._sent_stop and not self._over:
                self._sent_stop = True
                self._conn.send(wire.STOP, self._cid)

    async def _before_use(self) -> None:
        if self._mode == 0:
            raise RuntimeError(f"the call of {self.verb} is no dialog")

    def _raise_error(self) -> None:
        """Raises the error by which the call has ended, if it has."""

    def _check(self) -> None:
        if self._over:
            self._raise_error()
            raise EOFError("the call has ended")
        if self._sent_stop:
            raise RuntimeError("send() after stop()")

    def _owe(self, cost: int) -> None:
        self._owed += cost
        if self._owed * 4 >= self._window and not self._over and not self._seen_stop:
            self._conn.send(wire.CREDIT, self._cid, self._owed)
            self._grant += self._owed
            self._owed = 0

    def _discard(self) -> None:
        self._drop = True
        while self._items:
            self._owe(wire.cost(self._items.popleft()))

    async def _until(self, test: Callable[[], bool]) -> None:
        while not test():
            waiter: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def _poke(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _at(self, when: float, what: Callable[..., None], *args: Any) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(max(0.0, when - time.monotonic()), what, *args))

    def _finish(self) -> None:
        self._over = True
        for timer in self._timers:
            timer.cancel()
        self._poke()

    # What came from the other side.

    def _on_yield(self, raw: bytes) -> None:
        if self._seen_stop:
            raise wire.Violation("YIELD after STOP")
        if self._grant <= 0:
            raise wire.Violation("YIELD without credit")
        self._grant -= wire.cost(raw)
        if not self._over:
            self._items.append(raw)
            if self._drop:
                self._discard()

    def _on_credit(self, count: int) -> None:
        self._credit += count

    def _on_stop(self) -> None:
        if self._seen_stop:
            raise wire.Violation("STOP twice")
        self._seen_stop = True


class Context(Dialog):
    """A call that this program serves. A stream's function gets it first; elsewhere current() gives it.

    In an async function its methods are coroutines; in a plain one they block, and ``for`` takes the place of
    ``async for``.
    """

    headers: Dict[str, str]
    """What the opener said besides, such as traceparent."""
    cancelled: Optional[errors.Cancelled] = None
    """By whom and why, once somebody has cancelled the call."""

    def __init__(self, app: "Actor", cid: int, verb: str, mode: int, window: int, deadline: Optional[float], headers: Dict[str, str]) -> None:
        super().__init__(app, verb, mode, app.window, deadline)
        self._cid, self._credit, self.headers = cid, window, headers
        self._task: Optional["asyncio.Task[None]"] = None
        self._ops: Set["asyncio.Task[Any]"] = set()  # what a thread waits for on behalf of this call

    async def started(self, value: Any = None) -> None:
        """Sends the dialog's first value; openers wait for it. Without it, nil is sent at the first send(), recv() or return."""
        if self._begun or not await self._start(value):
            raise RuntimeError("started() after the dialog has begun")

    async def _start(self, value: Any) -> bool:
        await super()._before_use()
        body = wire.body(wire.STARTED, self._cid, raw=wire.dumps(value), cap=self._conn.cap)
        await self._conn.gate()
        self._check()
        if self._begun:
            return False
        self._begun = True
        self._conn.write(body)
        return True

    async def _before_use(self) -> None:
        if not self._begun and not self._over:
            await self._start(None)

    def _raise_error(self) -> None:
        if self._over:
            raise self.cancelled or errors.Cancelled("the call has ended")

    def _begin(self) -> None:
        if self._mode == 1 and not self._over and not self._acked:
            self._acked, self._grant = True, self._window
            self._conn.send(wire.STARTACK, self._cid, self._window)

    def _end(self, body: bytes) -> None:
        if not self._over:
            self._app._served.pop(self._cid, None)
            self._conn.write(body)
            self._finish()
            for op in self._ops:
                op.cancel()

    def _end_error(self, e: BaseException) -> None:
        self._end(self._conn.error(self._cid, e))

    def _interrupt(self, e: errors.Cancelled, grace: float) -> None:
        if self.cancelled is None and not self._over:
            self.cancelled = e
            assert self._task is not None
            self._task.cancel()
            self._at(time.monotonic() + grace, self._end_error, e)

    def _expire(self) -> None:
        self._end_error(errors.Deadline(f"the deadline of {self.verb} passed"))
        assert self._task is not None
        self._task.cancel()


class Stream(Dialog):
    """A call that this program opened: ``async with app.open("verb", payload) as stream``.

    Entering waits for the other side's first value, which is then ``first``. Leaving ends the call: one that has not
    ended is cancelled, so take the ``result()`` inside where it matters; an error that nobody has seen is raised.
    """

    first: Any = None
    """The value with which the other side started."""

    def __init__(self, app: "Actor", verb: str, payload: Any, mode: int, window: int, timeout: Optional[float], headers: Optional[Dict[str, str]]) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        outer = current()
        if outer is not None and outer.deadline is not None:
            deadline = outer.deadline if deadline is None else min(deadline, outer.deadline)
        super().__init__(app, verb, mode, window, deadline)
        self._grant, self._payload, self._headers = window, wire.dumps(payload), headers or {}
        self._value: Optional[bytes] = None
        self._error: Optional[Exception] = None
        self._sent_cancel = self._told = False

    async def result(self) -> Any:
        """Says that this side sends no more, drops the items that are still to come, and returns what the call gives.

        Raises the call's error; Deadline when the time is over.
        """
        if self._mode == 1:
            await self.stop()
        self._discard()
        await self._until(lambda: self._over)
        self._raise_error()
        return None if self._value is None else wire.loads(self._value)

    async def cancel(self, reason: str = "", grace: float = 1.0) -> None:
        """Asks the other side to end the call, and waits for that, at most grace seconds. Never raises the call's error."""
        self._cancel(reason, grace)
        try:
            await asyncio.wait_for(self._until(lambda: self._over), grace)
        except asyncio.TimeoutError:
            self._fail(errors.Cancelled("cancelled, and not ended within the grace", canceller=self._conn.me))

    async def __aenter__(self) -> "Stream":
        try:
            await self._start()
            await self._until(lambda: self._begun or self._over)
        except BaseException as e:
            self._abandon(e)
            raise
        if not self._begun:
            self._raise_error()
        return self

    async def __aexit__(self, kind: Any, e: Optional[BaseException], tb: Any) -> None:
        if not self._over:
            await self.cancel("" if e is None else f"{kind.__name__}: {e}"[:256])
        elif e is None and not self._told:
            self._raise_error()

    async def _call(self) -> Any:
        try:
            await self._start()
            return await self.result()
        except BaseException as e:
            self._abandon(e)
            raise

    async def _start(self) -> None:
        if self._cid:
            raise RuntimeError("a stream is used once")
        app = self._app
        if self.deadline is not None:
            self._at(self.deadline, self._expire)
        await self._conn.gate()
        self._raise_error()
        left = self.time_left()
        if left == 0:
            self._expire()
            self._raise_error()
        cid = app._last_opened + 2
        body = wire.body(wire.START, cid, self.verb, self._mode, 0 if left is None else max(1, int(min(left * 1000, wire.BIG))),
                         self._window, self._headers, raw=self._payload, cap=self._conn.cap)
        self._conn.write(body)
        self._payload = b""
        app._last_opened = self._cid = cid
        app._opened[cid] = self

    def _raise_error(self) -> None:
        if self._over and self._error is not None:
            self._told = True
            raise self._error

    def _fail(self, e: Exception) -> None:
        if not self._over:
            self._error = e
            self._items.clear()
            self._drop = True
            self._finish()

    def _cancel(self, reason: str, grace: float) -> None:
        if self._cid and not self._over and not self._sent_cancel:
            self._sent_cancel = True
            by = list(self._conn.me)
            self._conn.send(wire.CANCEL, self._cid, by, errors.cut(reason, 1024), max(0, int(grace * 1000)))

    def _abandon(self, e: BaseException) -> None:
        self._cancel(f"{type(e).__name__}: {e}"[:256], 1.0)
        self._fail(errors.Cancelled("the opener gave up", canceller=self._conn.me))

    def _expire(self) -> None:
        self._cancel("the deadline passed", 1.0)
        self._fail(errors.Deadline(f"the deadline of {self.verb} passed"))

    # What came from the other side.

    def _on_startack(self, window: int) -> None:
        if self._acked:
            raise wire.Violation("STARTACK twice")
        self._acked = True
        self._credit += window

    def _on_started(self, raw: bytes) -> None:
        if self._begun or not self._acked:
            raise wire.Violation("STARTED twice, or before STARTACK")
        self._begun = True
        if not self._over:
            try:
                self.first = wire.loads(raw)
            except errors.BadPayload as e:
                self._cancel(str(e), 1.0)
                self._fail(e)

    def _on_yield(self, raw: bytes) -> None:
        if not self._begun:
            raise wire.Violation("YIELD before STARTED")
        super()._on_yield(raw)

    def _on_end(self, value: Optional[bytes], error: Optional[Exception]) -> None:
        if not self._over:
            self._value, self._error = value, error
            self._finish()


class SyncDialog:
    """A Context or Stream for plain functions: the same methods, but they block; ``for`` and ``with`` work."""

    def __init__(self, app: "Actor", dialog: Dialog) -> None:
        self._app, self._dialog = app, dialog

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._dialog, name)
        if not inspect.iscoroutinefunction(value):
            return value
        return lambda *args, **kwargs: self._app.sync(value(*args, **kwargs))

    def __iter__(self) -> Iterator[Any]:
        while True:
            try:
                item = self.recv()
            except EOFError:
                return
            yield item

    def __enter__(self) -> "SyncDialog":
        self._app.sync(self._dialog.__aenter__())  # type: ignore[attr-defined]
        return self

    def __exit__(self, kind: Any, e: Optional[BaseException], tb: Any) -> None:
        self._app.sync(self._dialog.__aexit__(kind, e, tb))  # type: ignore[attr-defined]
