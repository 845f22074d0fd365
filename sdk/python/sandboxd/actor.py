"""The actor: its connection to the supervisor, what it serves and what it calls."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import socket
import sys
import threading
import time
import traceback
from typing import (Any, Awaitable, Callable, Coroutine, Dict, FrozenSet, List, Mapping, NoReturn, Optional, Sequence, Set,
                    Tuple, TypeVar)

from . import errors, wire
from .conn import FULL, Connection
from .context import _current
from .dialog import Headers, Seconds, SyncDialog
from .peers import Child, Peer
from .serving import Server
from .stream import Stream
from .verbs import Verb

_F = TypeVar("_F", bound=Callable[..., Any])
_BY_SERVER = (wire.STARTACK, wire.STARTED, wire.RETURN, wire.ERROR, wire.CANCELACK)
_ONLY_STREAMS = (wire.STARTACK, wire.STARTED, wire.YIELD, wire.CREDIT, wire.STOP)
_Main = Optional[Callable[[], Awaitable[Any]]]
_End = Tuple[int, float, Optional[errors.Cancelled]]  # exit status, grace, and who asked for the end, if somebody did


class Actor:
    """This program, as an actor: register verbs, then run().

    threads    plain functions that run at once; more of them wait. Default 32
    max_calls  calls that are served at once; more are answered by Busy. Default 1024
    window     bytes of items that a stream holds before its reader takes them. Default 0: what WELCOME says

    After the handshake: ``id``, ``name``, ``epoch`` (1 for the first life), ``limits`` (a map, such as ``memory`` in
    bytes), ``deadline`` (on the clock of time.monotonic(), in seconds; None = none), ``verbs`` of the supervisor, and
    ``frame_cap`` in bytes.
    """

    id = name = ""
    epoch = 0
    deadline: Optional[float] = None
    verbs: FrozenSet[str] = frozenset()
    frame_cap = 1 << 20

    def __init__(self, *, threads: int = 32, max_calls: int = 1024, window: int = 0) -> None:
        self.limits: Dict[str, int] = {}
        self.window = window
        self._opened: Dict[int, Stream] = {}
        self._last_opened = -1
        self._pings: Dict[int, "asyncio.Future[None]"] = {}
        self._main_task: Optional["asyncio.Task[None]"] = None
        self._conn = Connection()
        self._server = Server(self, threads, max_calls)
        self._thread: Optional[int] = None

    # What this program serves.

    def verb(self, name: str) -> Callable[[_F], _F]:
        """Registers a function for calls with one answer: ``fn(payload)`` or ``fn()``, async or plain.

        A payload that does not fit the parameter's type hint is refused, if the hint is int, float, str, bytes, bool,
        list or dict, or a choice of those.
        """
        return self._register(name, 0)

    def stream(self, name: str) -> Callable[[_F], _F]:
        """Registers a function for dialogs: ``fn(ctx, payload)`` or ``fn(ctx)``, async or plain; ctx is a Context.

        What a generator yields is sent.
        """
        return self._register(name, 1)

    def _register(self, name: str, mode: int) -> Callable[[_F], _F]:
        def register(fn: _F) -> _F:
            if name in self._server.verbs:
                raise ValueError(f"verb {name!r} twice")
            self._server.verbs[name] = Verb(name, mode, fn)
            return fn
        return register

    # What this program calls.

    async def call(self, verb: str, payload: Any = None, *, timeout: Seconds = None, headers: Headers = None) -> Any:
        """Calls a verb of the supervisor and returns its answer.

        timeout is in seconds; None = none of its own, but a call made while serving one ends with that one's deadline.
        A call whose task is cancelled is cancelled over there. Raises RemoteError or a registered error.
        """
        return await Stream(self, verb, payload, 0, 0, timeout, headers)._call()

    def open(self, verb: str, payload: Any = None, *, timeout: Seconds = None, window: int = 0,
             headers: Headers = None) -> Stream:
        """Opens a dialog with a verb of the supervisor: ``async with app.open(...) as stream``.

        window is in bytes: what this side holds before its reader takes it; 0 = the actor's. Otherwise like call().
        """
        return Stream(self, verb, payload, 1, window or self.window, timeout, headers)

    def sync(self, awaitable: Coroutine[Any, Any, Any]) -> Any:
        """Runs one of this actor's coroutines for a plain function: ``app.sync(app.spawn("worker"))``.

        Blocks. Raises Cancelled as soon as the call that the function serves has ended.
        """
        call, result = _current.get(), concurrent.futures.Future()  # type: ignore[var-annotated]

        def done(task: "asyncio.Task[Any]") -> None:
            if task.cancelled():
                why = call.cancelled if call else None
                result.set_exception(why or errors.Cancelled("the call has ended"))
            elif task.exception() is not None:
                result.set_exception(task.exception())
            else:
                result.set_result(task.result())

        def begin() -> None:
            task = self._loop.create_task(awaitable)
            task.add_done_callback(done)
            if call is not None:
                call._ops.add(task)
                task.add_done_callback(call._ops.discard)
                if call._over:
                    task.cancel()

        try:
            if self._thread == threading.get_ident():
                raise RuntimeError("sync() in an async function: use await")
            if self._thread is None:
                raise errors.Lost("there is no connection")
            self._loop.call_soon_threadsafe(begin)
        except Exception as e:
            awaitable.close()
            raise errors.Lost("the connection is closed") if self._thread is None else e
        return result.result()

    def call_sync(self, verb: str, payload: Any = None, **options: Any) -> Any:
        """call() for plain functions, with the same options."""
        return self.sync(self.call(verb, payload, **options))

    def open_sync(self, verb: str, payload: Any = None, **options: Any) -> SyncDialog:
        """open() for plain functions, with the same options: ``with app.open_sync(...) as stream``."""
        async def make() -> Stream:
            return self.open(verb, payload, **options)

        return SyncDialog(self, self.sync(make()))

    async def spawn(self, kind: str, name: str = "", *, args: Sequence[str] = (), env: Optional[Mapping[str, str]] = None,
                    timeout: Seconds = None) -> Child:
        """Spawns a child of a kind that this actor's Spec names, and returns when it is ready. timeout is in seconds."""
        payload = {"kind": kind, "name": name, "args": list(args), "env": dict(env or {})}
        got = await self.call("sandboxd.spawn", payload, timeout=timeout)
        return Child(self, got["id"], got["name"])

    async def find(self, name: str, *, timeout: Seconds = None) -> List[Peer]:
        """Who has that name now, in this tree; maybe nobody. timeout is in seconds."""
        found = await self.call("sandboxd.find", {"name": name}, timeout=timeout)
        return [Peer(self, got["id"], got["name"]) for got in found]

    async def await_name(self, name: str, *, timeout: Seconds = None) -> Peer:
        """Waits for the first to have that name. timeout is in seconds."""
        got = await self.call("sandboxd.await", {"name": name}, timeout=timeout)
        return Peer(self, got["id"], got["name"])

    async def ping(self) -> None:
        """Returns when the supervisor has answered a PING."""
        number = max(self._pings, default=0) + 1
        answer = self._pings[number] = self._loop.create_future()
        await self._conn.gate()
        self._conn.send(wire.PING, number)
        await answer

    # The life of the connection.

    def run(self, main: _Main = None, *, sock: Optional[socket.socket] = None) -> NoReturn:
        """Serves until cancelled, then exits the program: status 0, or 1 when the connection was lost.

        main is an async function to run besides; the program ends when it returns. Threads of functions that were
        abandoned, and async functions that ignore cancellation, are not waited for.
        """
        status, rest = 1, 1.0
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            status, rest = loop.run_until_complete(self._main(main, sock))
        except (errors.RemoteError, OSError) as e:
            print(f"sandboxd: {e}", file=sys.stderr)
        guard = threading.Timer(rest, os._exit, (status,))
        guard.daemon = True
        try:
            guard.start()
        except RuntimeError:  # the sandbox's limit of processes and threads
            pass
        if self._server.pool.busy() or asyncio.all_tasks(loop):
            for file in (sys.stdout, sys.stderr):
                try:
                    file.flush()
                except Exception:
                    pass
            os._exit(status)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        sys.exit(status)

    async def _main(self, main: _Main, sock: Optional[socket.socket]) -> Tuple[int, float]:
        try:
            return await self._serve(main, sock)
        finally:
            left = asyncio.all_tasks() - {asyncio.current_task()} - self._server.tasks  # those had their time
            for task in left:
                task.cancel()
            await self._settle(left, 0.2)

    async def serve(self, *, sock: Optional[socket.socket] = None) -> int:
        """What run() does, for programs with an event loop of their own. Returns the status to exit with.

        sock is a connected socket; without it the actor connects to SANDBOXD_PEER. Raises Lost when the connection was
        lost, Protocol when the supervisor broke the protocol, OSError when there was none.
        """
        return (await self._serve(None, sock))[0]

    def stop(self, status: int = 0, grace: float = 1.0) -> None:
        """Ends the program of its own accord, from any thread: what is being served has grace seconds, half of them to
        end by itself."""
        if self._thread is None:
            raise errors.Lost("there is no connection to the supervisor")
        self._loop.call_soon_threadsafe(self._stop, (status, grace, None))

    def _stop(self, end: _End) -> None:
        self._server.stopping = self._server.stopping or end[2] or errors.Cancelled("the actor ends")
        if not self._ending.done():
            self._ending.set_result(end)

    async def _serve(self, main: _Main, sock: Optional[socket.socket]) -> Tuple[int, float]:
        if hasattr(self, "_loop"):
            raise RuntimeError("an Actor serves once")
        self._loop = asyncio.get_running_loop()
        welcome = await self._conn.open(list(self._server.verbs), 0, sock)
        _, self.id, self.name, self.epoch, self.frame_cap, window, left, self.limits, verbs = welcome
        self.verbs, self.window = frozenset(verbs), self.window or window or 1 << 16
        self.deadline = time.monotonic() + left / 1000 if left else None
        self._thread, self._ending = threading.get_ident(), self._loop.create_future()
        reader = self._loop.create_task(self._read())
        if main is not None:
            self._main_task = self._loop.create_task(self._run_main(main))
            self._server.tasks.add(self._main_task)
            self._main_task.add_done_callback(self._server.tasks.discard)
        try:
            status, grace, by = await self._ending
            deadline = time.monotonic() + grace * 0.75  # the rest is for what follows
            if by is None:
                await self._settle(self._server.tasks, grace * 0.5)
            self._server.interrupt(grace)
            if self._main_task is not None:
                self._main_task.cancel()
            await self._settle(self._server.tasks, deadline - time.monotonic())
            self._server.abandon()
            if self._conn.closed:
                raise errors.Lost("the connection to the supervisor is lost")
            self._conn.send(wire.EXIT)
            await self._conn.close(grace * 0.125)
            return status, min(10.0, max(0.1, deadline + grace * 0.25 - time.monotonic()))
        except errors.RemoteError:
            await self._settle(self._server.tasks, 1.0)
            await self._conn.close(1.0)
            raise
        finally:
            reader.cancel()
            self._fail()
            await self._conn.close(0)
            self._thread = None

    async def _run_main(self, main: Callable[[], Awaitable[Any]]) -> None:
        status = 1
        try:
            await main()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            self._stop((status, 1.0, None))

    async def _settle(self, tasks: Set[Any], timeout: float) -> None:
        """Waits for tasks, at most timeout seconds."""
        if tasks:
            await asyncio.wait(set(tasks), timeout=max(0.0, timeout))

    def _fail(self) -> None:
        """Nothing more is sent; every open call has ended."""
        self._conn.closed = True
        for stream in list(self._opened.values()):
            stream._fail(errors.Lost("the connection to the supervisor is lost"))
        for answer in self._pings.values():
            if not answer.done():
                answer.set_exception(errors.Lost("the connection to the supervisor is lost"))
        self._server.lose()

    async def _read(self) -> None:
        try:
            while True:
                self._on(*await self._conn.receive())
                # More than functions leave to be sent: it makes us answer, and does not read.
                if self._conn.waiting() > FULL + 2 * self._conn.cap:
                    await self._conn.gate()
        except Exception as e:
            e = self._conn.hang_up(e)
            if not self._ending.done():
                lost = e if isinstance(e, errors.RemoteError) else errors.Lost(f"{type(e).__name__}: {e}")
                self._ending.set_exception(lost)
            self._fail()

    # Messages.

    def _on(self, kind: int, f: List[Any]) -> None:
        if kind == wire.PING:
            self._conn.send(wire.PONG, f[0])
        elif kind == wire.PONG:
            answer = self._pings.pop(f[0], None)
            if answer is None:
                raise wire.Violation("PONG without PING")
            if not answer.done():
                answer.set_result(None)
        elif kind == wire.START:
            self._server.start(*f)
        elif kind == wire.WELCOME:
            raise wire.Violation("WELCOME twice")
        elif f[0] == 0 and kind == wire.CANCEL:
            self._conn.send(wire.CANCELACK, 0, 0)
            self._stop((0, f[3] / 1000, errors.Cancelled(f[2], canceller=(f[1][0], f[1][1]))))
        elif f[0] == 0 and kind == wire.ERROR:
            raise errors.Lost(f"the supervisor closes the connection: {errors.unbox(*f[1])}")
        elif f[0] % 2 if kind == wire.CANCEL else f[0] % 2 == 0 and kind in _BY_SERVER or f[0] == 0:
            raise wire.Violation(f"message {kind} for {f[0]}, which its sender may not send")
        else:
            self._on_call(kind, *f)

    def _on_call(self, kind: int, cid: int, *f: Any) -> None:
        stream, call = self._opened.get(cid), self._server.calls.get(cid)
        dialog = stream or call
        if dialog is None:
            if cid > (self._last_opened if cid % 2 else self._server.last):
                raise wire.Violation(f"message {kind} for call {cid}, which was never opened")
            if kind == wire.CANCEL:
                self._conn.send(wire.CANCELACK, cid, 1)
            return
        if kind in _ONLY_STREAMS and dialog._mode == 0:
            raise wire.Violation(f"message {kind} for call {cid}, which is no dialog")
        if kind == wire.YIELD:
            dialog._on_yield(f[0])
        elif kind == wire.CREDIT:
            dialog._on_credit(f[0])
        elif kind == wire.STOP:
            dialog._on_stop()
        elif call is not None:  # CANCEL
            self._conn.send(wire.CANCELACK, cid, 0)
            call._interrupt(errors.Cancelled(f[1], canceller=(f[0][0], f[0][1])), f[2] / 1000)
        elif stream is not None:
            if kind == wire.STARTACK:
                stream._on_startack(f[0])
            elif kind == wire.STARTED:
                stream._on_started(f[0])
            elif kind == wire.CANCELACK:
                if not stream._sent_cancel:
                    raise wire.Violation("CANCELACK without CANCEL")
            else:
                del self._opened[cid]
                stream._on_end(*((None, errors.unbox(*f[0])) if kind == wire.ERROR else (f[0], None)))
        dialog._poke()
