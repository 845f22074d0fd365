"""A Python program as an actor of sandboxd.

    import sandboxd

    app = sandboxd.Actor()

    @app.verb("double")
    def double(n: int) -> int:
        return 2 * n

    app.run()

Non-goals: starting sandboxes from outside, which is the supervisor's work, and talking to anybody but it.
"""

from .actor import Actor
from .conn import probe
from .context import Context, current
from .dialog import Dialog, SyncDialog
from .errors import (BadPayload, Busy, Cancelled, Deadline, Denied, Lost, NotFound, Panic, Protocol, RemoteError,
                     UnknownVerb, WrongMode, register_error)
from .peers import Child, End, Peer
from .stream import Stream

__all__ = ["Actor", "BadPayload", "Busy", "Cancelled", "Child", "Context", "Deadline", "Denied", "Dialog", "End", "Lost",
           "NotFound", "Panic", "Peer", "Protocol", "RemoteError", "Stream", "SyncDialog", "UnknownVerb", "WrongMode",
           "current", "probe", "register_error"]
