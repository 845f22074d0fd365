"""The connection to the supervisor: the handshake, whole frames in and out, and waiting when it does not read."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import errors, wire

FULL = 64 << 10  # bytes that wait to be sent before those who send have to wait, too


class Connection:
    """One connection, closed until open(). Errors: Lost, Protocol, and what the supervisor refused it with."""

    def __init__(self) -> None:
        self.closed, self.cap = True, wire.HANDSHAKE_CAP
        self.me: errors.Address = errors.NOBODY

    async def open(self, verbs: Sequence[str], flags: int, sock: Optional[socket.socket]) -> List[Any]:
        """Connects, says HELLO, and returns the fields of WELCOME. Raises OSError where nobody listens."""
        hello = wire.body(wire.HELLO, wire.PROTO, "python/1", list(verbs), flags, cap=wire.HANDSHAKE_CAP)
        path = None if sock else os.environ.get("SANDBOXD_PEER") or "/run/sandboxd/peer.sock"
        self._reader, self._writer = await asyncio.open_unix_connection(path, sock=sock)
        self._writer.transport.set_write_buffer_limits(high=FULL)
        self._draining, self.closed = asyncio.Lock(), False
        self.write(hello)
        try:
            kind, fields = await asyncio.wait_for(self.receive(), 10)
            if kind == wire.ERROR and fields[0] == 0:
                raise errors.unbox(*fields[1])
            if kind != wire.WELCOME:
                raise wire.Violation(f"message {kind} instead of WELCOME")
        except Exception as e:
            raise self.hang_up(e)
        self.me, self.cap = (fields[1], fields[2]), fields[4]
        return fields

    async def receive(self) -> Tuple[int, List[Any]]:
        """The next message: its type and fields."""
        size = int.from_bytes(await self._reader.readexactly(4), "little")
        if not 1 <= size <= self.cap:
            raise wire.Violation(f"a frame of {size} bytes; the limit is {self.cap}")
        return wire.parse(await self._reader.readexactly(size))

    def waiting(self) -> int:
        """Bytes that wait to be sent."""
        return 0 if self.closed else self._writer.transport.get_write_buffer_size()

    async def gate(self) -> None:
        """Waits until few enough bytes wait to be sent. Raises Lost."""
        while self.waiting() > FULL:
            async with self._draining:
                try:
                    await self._writer.drain()
                except OSError:
                    break
        if self.closed:
            raise errors.Lost("there is no connection to the supervisor")

    def write(self, body: bytes) -> None:
        """Sends a body, sooner or later; on a closed connection never."""
        if not self.closed:
            self._writer.write(len(body).to_bytes(4, "little") + body)

    def send(self, kind: int, *fields: Any) -> None:
        """Sends a message without a payload."""
        self.write(wire.body(kind, *fields))

    def error(self, cid: int, e: BaseException) -> bytes:
        """The body of ERROR; what makes it too large is left out, least important first."""
        fields = errors.box(e, self.me)
        for smaller in (fields, [*fields[:6], None], [fields[0], errors.cut(fields[1], 1024), "", *fields[3:6], None]):
            try:
                return wire.body(wire.ERROR, cid, smaller, cap=self.cap)
            except errors.BadPayload:
                pass
        return wire.body(wire.ERROR, cid, [errors.cut(str(fields[0]), 128), "", "", errors.NOBODY, [], None, None])

    def hang_up(self, e: Exception) -> Exception:
        """Closes because of an exception, after ERROR if the supervisor broke the protocol. Returns what to raise."""
        if isinstance(e, wire.Violation):
            e = errors.Protocol(str(e))
            self.write(self.error(0, e))
        elif isinstance(e, (EOFError, OSError, asyncio.TimeoutError)):
            e = errors.Lost(f"the connection to the supervisor is lost: {type(e).__name__} {e}")
        if not self.closed:
            self.closed = True
            self._writer.close()
        return e

    async def close(self, timeout: float) -> None:
        """Closes, and waits at most timeout seconds for what is still to be sent."""
        self.closed = True
        self._writer.close()
        done = asyncio.ensure_future(self._writer.wait_closed())
        await asyncio.wait({done}, timeout=timeout)
        if not done.done() or done.cancelled() or done.exception() is not None:
            self._writer.transport.abort()
            done.cancel()


def probe(*, sock: Optional[socket.socket] = None) -> Dict[str, Any]:
    """Asks the supervisor who this program is, without becoming its actor's peer: id, name, epoch, limits, verbs.

    Raises Lost or OSError where no supervisor answers.
    """
    async def ask() -> Dict[str, Any]:
        conn = Connection()
        _, id_, name, epoch, _, _, _, limits, verbs = await conn.open((), 1, sock)
        await conn.close(1.0)
        return {"id": id_, "name": name, "epoch": epoch, "limits": limits, "verbs": verbs}

    return asyncio.run(ask())
