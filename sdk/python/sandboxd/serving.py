"""Serving calls: who may be served, and functions run to their end."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import TYPE_CHECKING, Any, Dict, Optional, Set, Tuple

from . import errors, wire
from .context import Context, _current
from .dialog import SyncDialog
from .verbs import Pool, Verb

if TYPE_CHECKING:
    from .actor import Actor


class Server:
    """The verbs of an actor, and the calls that are being served."""

    def __init__(self, app: "Actor", threads: int, max_calls: int) -> None:
        self._app, self._conn, self._max = app, app._conn, max_calls
        self.pool = Pool(threads)
        self.verbs: Dict[str, Verb] = {}
        self.calls: Dict[int, Context] = {}  # those that have not ended
        self.tasks: Set["asyncio.Task[None]"] = set()  # functions that have not returned, of abandoned calls too
        self.last = 0  # the number of the latest call
        self.stopping: Optional[errors.Cancelled] = None  # why no more calls are served

    def start(self, cid: int, name: str, mode: int, left: int, window: int, headers: Dict[str, str],
              raw: bytes) -> None:
        """START came: begins to serve the call, or refuses it."""
        if cid % 2 or cid <= self.last:
            raise wire.Violation(f"START with the number {cid}")
        self.last = cid
        verb = self.verbs.get(name)
        refused: Optional[errors.RemoteError] = None
        if verb is None:
            refused = errors.UnknownVerb(f"there is no verb {name}")
        elif verb.mode != mode:
            refused = errors.WrongMode(f"{name} takes mode {verb.mode}")
        elif self.stopping is not None:
            refused = self.stopping
        elif len(self.tasks) >= self._max:
            refused = errors.Busy(f"{self._max} calls are being served")
        if refused is not None or verb is None:
            return self._conn.write(self._conn.error(cid, refused or errors.UnknownVerb()))
        call = Context(self._app, cid, name, mode, window, time.monotonic() + left / 1000 if left else None, headers)
        self.calls[cid] = call
        call._task = asyncio.get_running_loop().create_task(self._work(call, verb, raw))
        self.tasks.add(call._task)
        call._task.add_done_callback(self.tasks.discard)
        call._task.add_done_callback(lambda _: call._end_error(call.cancelled or errors.Cancelled("the actor ends")))
        if call.deadline is not None:
            call._at(call.deadline, call._expire)

    def interrupt(self, grace: float) -> None:
        """Cancels every call; each has grace seconds."""
        for call in list(self.calls.values()):
            call._interrupt(self.stopping or errors.Cancelled(), grace)

    def abandon(self) -> None:
        """Answers every call that is left."""
        for call in list(self.calls.values()):
            call._end_error(self.stopping or errors.Cancelled())

    def lose(self) -> None:
        """Interrupts every function; there is nobody to answer to."""
        for call in list(self.calls.values()):
            call.cancelled = call.cancelled or errors.Cancelled("the connection to the supervisor is lost")
            call._end(b"")
        for task in self.tasks:
            task.cancel()

    async def _work(self, call: Context, verb: Verb, raw: bytes) -> None:
        _current.set(call)
        try:
            value = await self._invoke(call, verb, verb.args(wire.loads(raw)))
            body = wire.body(wire.RETURN, call._cid, raw=wire.dumps(value), cap=self._conn.cap)
            if call._mode == 1:
                await call._before_use()
            await self._conn.gate()
            call._end(body)
        except asyncio.CancelledError:
            call._end_error(call.cancelled or errors.Cancelled("the function cancelled itself"))
        except KeyboardInterrupt:
            raise
        except BaseException as e:
            body = self._conn.error(call._cid, e)
            try:
                await self._conn.gate()
            except (errors.Lost, asyncio.CancelledError):
                pass
            call._end(body)

    async def _invoke(self, call: Context, verb: Verb, args: Tuple[Any, ...]) -> Any:
        if not verb.is_async:
            value = await self._in_thread(call, verb, (SyncDialog(self._app, call), *args) if call._mode else args)
        else:
            call._begin()
            if not verb.agen:
                value = await verb.fn(*((call, *args) if call._mode else args))
            else:
                items = verb.fn(call, *args)
                try:
                    async for item in items:
                        await call.send(item)
                finally:
                    await items.aclose()
                value = None
        if not verb.fits(value):
            raise errors.BadPayload(f"{verb.name} gave a {type(value).__name__}")
        return value

    async def _in_thread(self, call: Context, verb: Verb, args: Tuple[Any, ...]) -> Any:
        loop = asyncio.get_running_loop()
        result: "asyncio.Future[Tuple[bool, Any]]" = loop.create_future()
        context = contextvars.copy_context()

        def job() -> None:
            if result.cancelled():
                return
            try:
                loop.call_soon_threadsafe(call._begin)
                outcome = True, context.run(verb.run, args)
            except BaseException as e:
                outcome = False, e
            try:
                loop.call_soon_threadsafe(deliver, outcome)
            except RuntimeError:  # the loop is closed: nobody waits
                pass

        def deliver(outcome: Tuple[bool, Any]) -> None:
            if not result.done():
                result.set_result(outcome)

        try:
            self.pool.submit(job)
        except RuntimeError as e:
            raise errors.Busy(f"no thread for {verb.name}: {e}") from None
        ok, value = await result
        if not ok:
            raise value
        return value
