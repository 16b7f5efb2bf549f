"""The files that a client has open, and which of them have to hear that something was lost."""

import errno

from viewstamp.services.extents.operations import FileFailure


class Handle:
    """An open file."""

    __slots__ = ("inode", "seen")

    def __init__(self, inode: int, seen: int) -> None:
        self.inode = inode
        self.seen = seen
        """How many losses of this file it has been told of."""


class OpenFiles:
    """The handles of one client."""

    def __init__(self) -> None:
        self._handles: dict[int, Handle] = {}
        self._open: dict[int, int] = {}
        """How many handles an inode has."""
        self._losses: dict[int, int] = {}
        """Of open inodes, how often what was written was lost."""
        self._last = 0
        self.pinned: set[int] = set()
        """Open inodes that the service keeps for this client."""

    def handle(self, number: int) -> Handle:
        """Return an open file; raise EBADF."""
        found = self._handles.get(number)
        if found is None:
            raise FileFailure(errno.EBADF, "there is no such handle")
        return found

    def open(self, inode: int) -> int:
        """Return a new handle."""
        self._last += 1
        self._open[inode] = self._open.get(inode, 0) + 1
        self._handles[self._last] = Handle(inode, self._losses.get(inode, 0))
        return self._last

    def close(self, number: int) -> int | None:
        """Return whose handle it was; None: nobody's."""
        handle = self._handles.pop(number, None)
        if handle is None:
            return None
        self._open[handle.inode] -= 1
        if not self._open[handle.inode]:
            del self._open[handle.inode]
            self._losses.pop(handle.inode, None)
        return handle.inode

    def is_open(self, inode: int) -> bool:
        """Return whether a file has a handle here."""
        return inode in self._open

    def lost(self, inode: int) -> None:
        """What was written into a file is lost: each of its handles is told once."""
        if inode in self._open:
            self._losses[inode] = self._losses.get(inode, 0) + 1

    def raise_once(self, handle: Handle) -> None:
        """Raise EIO if something that was written into this file was lost and the handle was not told."""
        losses = self._losses.get(handle.inode, 0)
        if handle.seen != losses:
            handle.seen = losses
            raise FileFailure(errno.EIO, "what was written into this file was lost with its lock")
