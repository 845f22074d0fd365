"""Stream: a call that this program opened."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Optional

from . import errors, wire
from .context import current
from .dialog import Dialog, Headers, Seconds

if TYPE_CHECKING:
    from .actor import Actor


class Stream(Dialog):
    """A call that this program opened: ``async with app.open("verb", payload) as stream``.

    Entering waits for the other side's first value, which is then ``first``. Leaving ends the call: one that has not
    ended is cancelled, so take the ``result()`` inside where it matters; an error that nobody has seen is raised.
    """

    first: Any = None
    """The value with which the other side started."""

    def __init__(self, app: "Actor", verb: str, payload: Any, mode: int, window: int, timeout: Seconds,
                 headers: Headers) -> None:
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
