"""Dialog: what both sides of a call have in common; Context and Stream are the two."""

from __future__ import annotations

import asyncio
import collections
import inspect
import time
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Iterator, List, Optional, Set, TypeVar

from . import wire

if TYPE_CHECKING:
    from .actor import Actor

_D = TypeVar("_D", bound="Dialog")
Seconds = Optional[float]
Headers = Optional[Dict[str, str]]


class Dialog:
    """What both sides of a call have: items both ways, within the windows, and an end."""

    verb: str
    """The verb that was called."""
    deadline: Optional[float]
    """When the call ends at the latest, on the clock of time.monotonic(), in seconds; None = never."""

    def __init__(self, app: "Actor", verb: str, mode: int, window: int, deadline: Seconds) -> None:
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
