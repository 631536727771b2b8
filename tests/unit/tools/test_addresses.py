from __future__ import annotations

import pytest

from noetl_serverless.tools.addresses import AddressRefused, check

NEVER = [
    "169.254.169.254",
    "169.254.170.2",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "100.100.100.200",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "224.0.0.1",
    "ff02::1",
]
PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "::",
    "fd12::1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "fec0::1",
    "64:ff9b::7f00:1",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("allow_private", [True, False])
def test_link_local_metadata_and_multicast_are_always_refused(address: str, allow_private: bool) -> None:
    with pytest.raises(AddressRefused, match="is refused"):
        check(address, allow_private)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_leave(address: str) -> None:
    check(address, allow_private=True)
    with pytest.raises(AddressRefused, match="private networks"):
        check(address, allow_private=False)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_reached(address: str) -> None:
    check(address, allow_private=False)
