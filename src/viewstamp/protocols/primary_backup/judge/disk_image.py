"""One node's disk as a restart would read it: what the oracles of both modes judge by."""

from typing import TypeAlias

from viewstamp.protocols.primary_backup.journal import Replay
from viewstamp.protocols.replication.judge.disk_image import DiskImage

BackupImage: TypeAlias = DiskImage[Replay]


def make_image() -> BackupImage:
    """Return the image of an empty disk."""
    return DiskImage(Replay())
