"""Who is at the other end of a connection, and what they may do.

The kernel says who connected (SO_PEERCRED, SO_PEERGROUPS); nothing that a peer sends counts.
"""

import grp
import os
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from agent.errors import ConfigError

_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59
_MAX_BYTES = 1024
"""Python reads no longer option: 256 groups."""


class Access(IntEnum):
    """What a peer may do."""

    NONE = 0
    READ = 1
    FULL = 2


@dataclass(frozen=True, slots=True)
class Peer:
    """Who connected, as of then."""

    pid: int
    uid: int
    groups: frozenset[int]


@dataclass(frozen=True, slots=True)
class Rights:
    """Who may do what.

    Attributes:
        owner: The user id that the service runs as.
        group: The id of the group that may come in, too; None = no group.
        group_access: What its members may do.
    """

    owner: int
    group: int | None = None
    group_access: Access = Access.READ

    def of(self, peer: Peer) -> Access:
        """What a peer may do: the owner and root everything, the group as configured."""
        if peer.uid in (0, self.owner):
            return Access.FULL
        if self.group is not None and self.group in peer.groups:
            return self.group_access
        return Access.NONE


class Connected(Protocol):
    """A connected socket, or asyncio's view of one."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """Read an option."""


def peer_of(connection: Connected) -> Peer:
    """Ask the kernel who connected.

    Raises:
        OSError: It does not say.
    """
    size = _CREDENTIALS.size
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, gid = _CREDENTIALS.unpack(data)
    try:
        more = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_BYTES)
    except OSError:
        more = b""  # more than 256, or a system that does not tell: the main group counts
    groups = struct.unpack(f"{len(more) // 4}I", more)
    return Peer(pid, uid, frozenset((gid, *groups)))


def rights(group: str, group_access: str) -> Rights:
    """The rights that a config gives.

    Args:
        group: ``control.group``: a name or a number; empty = no group.
        group_access: ``control.group_access``: read or full.

    Raises:
        ConfigError: There is no such group.
    """
    owner = os.geteuid()
    if not group:
        return Rights(owner)
    try:
        number = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(
            f"cannot use control.group: there is no group {group!r}",
            hint="agent config show --effective says where it comes from; getent group lists them",
        ) from None
    return Rights(owner, number, Access.FULL if group_access == "full" else Access.READ)
