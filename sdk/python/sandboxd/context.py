"""Context: a call that this program serves."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import TYPE_CHECKING, Any, Dict, Optional, Set

from . import errors, wire
from .dialog import Dialog, Seconds

if TYPE_CHECKING:
    from .actor import Actor

_current: contextvars.ContextVar[Optional["Context"]] = contextvars.ContextVar("sandboxd", default=None)


def current() -> Optional["Context"]:
    """The call that the running function serves, or None. Works in async and plain functions of both modes."""
    return _current.get()


class Context(Dialog):
    """A call that this program serves. A stream's function gets it first; elsewhere current() gives it.

    In an async function its methods are coroutines; in a plain one they block, and ``for`` takes the place of
    ``async for``.
    """

    headers: Dict[str, str]
    """What the opener said besides, such as traceparent."""
    cancelled: Optional[errors.Cancelled] = None
    """By whom and why, once somebody has cancelled the call."""

    def __init__(self, app: "Actor", cid: int, verb: str, mode: int, window: int, deadline: Seconds,
                 headers: Dict[str, str]) -> None:
        super().__init__(app, verb, mode, app.window, deadline)
        self._cid, self._credit, self.headers = cid, window, headers
        self._task: Optional["asyncio.Task[None]"] = None
        self._ops: Set["asyncio.Task[Any]"] = set()  # what a thread waits for on behalf of this call

    async def started(self, value: Any = None) -> None:
        """Sends the dialog's first value; openers wait for it. Without it, nil is sent at the first send(), recv() or
        return."""
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
            self._app._server.calls.pop(self._cid, None)
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
