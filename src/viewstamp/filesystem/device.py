"""Mounting and unmounting. root calls the kernel; others need the program `fusermount3` (Debian: fuse3)."""

import array
import ctypes
import errno
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Final

from viewstamp.core.errors import ConfigurationError

DEVICE: Final = "/dev/fuse"
_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_MNT_DETACH: Final = 2
_HELPER: Final = "fusermount3"
_COMMAND_S: Final = 10.0


def unusable() -> str | None:
    """Return why nothing can be mounted here; None: it can."""
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{DEVICE}: {error.strerror}"
    if os.geteuid() != 0 and shutil.which(_HELPER) is None:
        return f"only root mounts without {_HELPER} (Debian: apt-get install fuse3)"
    return None


def mount(mountpoint: Path, *, name: str, read_only: bool) -> int:
    """Mount, and return the file descriptor of the device, which does not block.

    Raises:
        ConfigurationError: nothing was mounted, and why.
    """
    try:
        there = mountpoint.is_dir()
    except OSError as error:
        gone = error.errno == errno.ENOTCONN
        why = (
            f"a mount whose process has ended: remove it with `umount -l {mountpoint}`"
            if gone
            else error.strerror
        )
        raise ConfigurationError(f"{mountpoint} cannot be used, {why}; nothing was mounted") from error
    if not there:
        raise ConfigurationError(f"{mountpoint} is not a directory: nothing was mounted")
    if (why := unusable()) is not None:
        raise ConfigurationError(f"nothing can be mounted: {why}")
    descriptor = (_mount_as_root if os.geteuid() == 0 else _mount_by_helper)(
        mountpoint, name, read_only=read_only
    )
    os.set_blocking(descriptor, False)
    return descriptor


def _mount_as_root(mountpoint: Path, name: str, *, read_only: bool) -> int:
    descriptor = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
    flags = _MS_NOSUID | _MS_NODEV | (_MS_RDONLY if read_only else 0)
    libc = ctypes.CDLL(None, use_errno=True)
    source, target = name.encode(), os.fsencode(mountpoint)
    if libc.mount(source, target, b"fuse.viewstamp", flags, options.encode()) != 0:
        number = ctypes.get_errno()
        os.close(descriptor)
        raise ConfigurationError(
            f"{mountpoint} cannot be mounted: {os.strerror(number)}; nothing was mounted"
        )
    return descriptor


def _mount_by_helper(mountpoint: Path, name: str, *, read_only: bool) -> int:
    """Let the helper mount; it sends the descriptor over a socket."""
    ours, its = socket.socketpair()
    options = f"default_permissions,fsname={name},subtype=viewstamp" + (",ro" if read_only else "")
    with ours, its:
        environment = {**os.environ, "_FUSE_COMMFD": str(its.fileno())}
        done = subprocess.run(  # noqa: S603  our own arguments, no shell
            [shutil.which(_HELPER) or _HELPER, "-o", options, "--", str(mountpoint)],
            env=environment,
            pass_fds=(its.fileno(),),
            capture_output=True,
            timeout=_COMMAND_S,
            check=False,
        )
        if done.returncode != 0:
            text = done.stderr.decode(errors="replace").strip()
            raise ConfigurationError(f"{mountpoint} cannot be mounted: {text}; nothing was mounted")
        descriptors = array.array("i")
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(descriptors.itemsize))
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: descriptors.itemsize])
    if not descriptors:
        raise ConfigurationError(f"{_HELPER} sent no descriptor for {mountpoint}")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def unmount(mountpoint: Path) -> None:
    """Unmount, at once for new callers, even if files are open; nothing happens where nothing is mounted."""
    if os.geteuid() == 0:
        ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(mountpoint), _MNT_DETACH)
    elif (helper := shutil.which(_HELPER)) is not None:
        subprocess.run(  # noqa: S603  our own arguments, no shell
            [helper, "-u", "-q", "-z", "--", str(mountpoint)], timeout=_COMMAND_S, check=False
        )
