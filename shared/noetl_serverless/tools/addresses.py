"""Which addresses a playbook may reach over HTTP: checked for the address that is actually connected to."""

from __future__ import annotations

import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# where clouds serve credentials of the machine, besides 169.254.0.0/16 and fe80::/10
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# both are deprecated, but some networks still route them
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")


class AddressRefused(OSError):
    """An address that HTTP tasks must not reach."""

    MARK = "is refused"


def check(text: str, allow_private: bool) -> None:
    """AddressRefused for link-local, metadata and multicast addresses always, for private ones unless allowed."""
    for address in _effective(ipaddress.ip_address(text.partition("%")[0])):
        if address.is_link_local or address in _METADATA:
            raise AddressRefused(f"the address {text} {AddressRefused.MARK}: link-local and metadata services")
        if address.is_multicast:
            raise AddressRefused(f"the address {text} {AddressRefused.MARK}: multicast")
        if (not address.is_global or address in _SITE_LOCAL) and not allow_private:
            raise AddressRefused(f"the address {text} {AddressRefused.MARK}: private networks and this machine")


def _effective(address: Address) -> list[Address]:
    """The address itself and the IPv4 address that it wraps, if any."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    embedded = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())[1:]]
    if address in _NAT64 or address in _COMPATIBLE:
        embedded.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    wrapped: list[Address] = [found for found in embedded if found is not None]
    # ::ffff:1.2.3.4 is 1.2.3.4 and nothing else; Python does not call all such addresses global
    return wrapped if address.ipv4_mapped or address in _NAT64 else [address, *wrapped]


def guarded_socket(allow_private: bool, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
    """A socket for one result of getaddrinfo, if the address may be reached."""
    family, kind, protocol, _, address = info
    check(str(address[0]), allow_private)
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)
    return sock
