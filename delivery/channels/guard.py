"""Connections to the public internet only: a name is resolved once, checked, and the checked address is connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Find = Callable[[str, int], Awaitable[list[str]]]
OpenSocket = Callable[[Any], socket.socket]
AddrInfo = tuple[socket.AddressFamily | int, socket.SocketKind | int, int, str, tuple[Any, ...]]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_PUBLIC = (ipaddress.IPv4Network("192.88.99.0/24"), ipaddress.IPv6Network("64:ff9b:1::/48"), ipaddress.IPv6Network("::/96"))


class ForbiddenAddressError(OSError):
    """The name leads to an address that must not be connected to."""


def is_public(address: IpAddress) -> bool:
    """Return whether an address, or the one embedded in it, is on the public internet."""
    embedded = _embedded(address)
    if embedded is not None:
        return is_public(embedded)
    if any(address.version == network.version and address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


def _embedded(address: IpAddress) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


async def addresses_of(host: str, port: int) -> list[str]:
    """Return the addresses of a host; raises OSError where there are none."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host} has no address: {error}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def check(host: str, address: str) -> None:
    """Raise ForbiddenAddressError where an address of a host is not on the public internet."""
    if not is_public(ipaddress.ip_address(address.partition("%")[0])):
        raise ForbiddenAddressError(f"{host} leads to {address}, which is not a public address")


@dataclass(frozen=True)
class GuardedResolver(AbstractResolver):
    """Looks hosts up, and none of a host's addresses may be private. What was checked is what is connected to, so a name cannot change
    in between.
    """

    find: Find = addresses_of

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Return the checked addresses; raises ForbiddenAddressError where any of them is not public, else OSError where there are none."""
        del family
        addresses = await self.find(host, port)
        for address in addresses:
            check(host, address)
        return [_result(host, address, port) for address in addresses]

    async def close(self) -> None:
        """See AbstractResolver."""


def guarded_socket(info: AddrInfo) -> socket.socket:
    """Return a socket for an address; raises ForbiddenAddressError where it is not public: an address in a URL is never looked up."""
    family, kind, protocol, _, (address, *_) = info
    check(str(address), str(address))
    return socket.socket(family, kind, protocol)


def connector(
    limit: int, keep_s: float, *, allow_private: bool = False, find: Find = addresses_of, open_socket: OpenSocket = guarded_socket
) -> TCPConnector:
    """Return at most `limit` connections, each kept for `keep_s` after its last use: to public addresses, unless private ones are allowed.

    Nothing that was looked up is kept: every new connection looks up and checks anew.
    """
    if allow_private:
        return TCPConnector(limit=limit, keepalive_timeout=keep_s, use_dns_cache=False)
    return TCPConnector(
        limit=limit, keepalive_timeout=keep_s, use_dns_cache=False, resolver=GuardedResolver(find), socket_factory=open_socket
    )


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return {"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": socket.AI_NUMERICHOST}
