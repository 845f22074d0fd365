"""Other actors, as what the supervisor's own verbs give: docs/protocol.md, section 10."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional

from .stream import Stream

if TYPE_CHECKING:
    from .actor import Actor


class End(NamedTuple):
    """How a child ended: the reason, such as "exited" or "oom", its exit code, and the reason in words."""

    reason: str
    code: int
    detail: str


class Peer:
    """Another actor, by its id, which is unique on this machine, and its name, which others may have too."""

    def __init__(self, app: "Actor", id: str, name: str) -> None:
        self._app, self.id, self.name = app, id, name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r}, {self.name!r})"

    def _via(self, verb: str, payload: Any) -> Dict[str, Any]:
        return {"id": self.id, "verb": verb, "payload": payload}

    async def call(self, verb: str, payload: Any = None, **options: Any) -> Any:
        """Calls a verb of that actor; options are those of Actor.call()."""
        return await self._app.call("sandboxd.call", self._via(verb, payload), **options)

    def open(self, verb: str, payload: Any = None, **options: Any) -> Stream:
        """Opens a dialog with a verb of that actor; options are those of Actor.open()."""
        return self._app.open("sandboxd.open", self._via(verb, payload), **options)


class Child(Peer):
    """An actor that this one has spawned."""

    async def cancel(self, reason: str = "", *, timeout: Optional[float] = None) -> None:
        """Ends the child, and returns when it is gone. timeout is in seconds; None = none of its own."""
        await self._app.call("sandboxd.cancel", {"id": self.id, "reason": reason}, timeout=timeout)

    async def wait(self, *, timeout: Optional[float] = None) -> End:
        """Waits until the child has ended, and says how. timeout is in seconds; None = none of its own."""
        end = await self._app.call("sandboxd.wait", {"id": self.id}, timeout=timeout)
        return End(end["reason"], end["code"], end["detail"])
