"""Webhooks reach nothing of our own network, however its address is written or hidden."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Network, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tallystick.core.errors import BadInput
from tallystick.wire.webhook_address import (
    AllowList,
    Target,
    check_address,
    parse_allow_list,
    parse_target,
)

NOTHING = AllowList()
NAT64 = IPv6Network("64:ff9b::/96")
PUBLIC = Target("https", "hooks.example.com", 443, "/")

INNER = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.1.2.3", "169.254.1.1",
    "169.254.169.254", "169.254.170.2", "168.63.129.16", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1",
    "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1",
    "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::10.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::ffff:0:10.0.0.1", "64:ff9b::10.0.0.1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1",
    "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "fc00::1", "fd00:ec2::254",
    "fd20:ce::254", "fe80::1", "fec0::1", "ff02::1", "4000::1", "2600::5efe:10.0.0.1", "2600::200:5efe:10.0.0.1",
]  # fmt: skip
OUTER = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.1", "193.0.0.1",
         "198.17.255.255", "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "64:ff9b::8.8.8.8"]  # fmt: skip


def code_of(url: str, allow: AllowList = NOTHING) -> str | None:
    try:
        parse_target(url, allow)
    except BadInput as error:
        return error.code if error.where == "url" else error.where
    return None


@pytest.mark.parametrize("address", INNER)
def test_addresses_that_are_not_of_the_public_internet_are_refused_as_written_and_as_resolved(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert code_of(f"https://{host}/x") == "webhook_address_refused"
    with pytest.raises(BadInput) as caught:
        check_address(ip_address(address), PUBLIC, NOTHING)
    assert caught.value.code == "webhook_address_refused"
    assert address not in str(caught.value), "what a name stands for in our network is told to nobody"


@pytest.mark.parametrize("address", OUTER)
def test_addresses_of_the_public_internet_are_not(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert code_of(f"https://{host}/x") is None
    check_address(ip_address(address), PUBLIC, NOTHING)


@given(st.ip_addresses())
@example(ip_address("2002:0a00:0001::"))
def test_whatever_passes_is_global_by_the_registries_as_well(address: object) -> None:
    assert not isinstance(address, str)
    try:
        check_address(address, PUBLIC, NOTHING)  # type: ignore[arg-type]
    except BadInput:
        return
    named = ip_address(str(address))
    if named in NAT64:
        named = IPv4Address(int(named) & 0xFFFF_FFFF)
    assert named.is_global
    assert not named.is_multicast


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost/", "https://LOCALHOST./", "https://a.localhost/", "https://metadata.google.internal/",
        "https://metadata/", "https://metadata.goog/", "https://x.metadata.goog/", "https://db.internal/",
        "https://printer.local/", "https://intranet/", "https://router.home.arpa/", "https://a.lan/",
        "https://hooks.example.com:22/", "https://hooks.example.com:80/", "https://hooks.example.com:6379/",
        "http://hooks.example.com/", "http://hooks.example.com:443/", "https://abc.onion/",
    ],
)  # fmt: skip
def test_names_ports_and_schemes_that_are_not_for_the_public_internet_are_refused(url: str) -> None:
    assert code_of(url) == "webhook_address_refused"


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.example.com", "//hooks.example.com/", "ftp://hooks.example.com/", "file:///etc/passwd",
        "gopher://hooks.example.com/", "https://", "https:///x", "https://user@hooks.example.com/",
        "https://user:secret@hooks.example.com/", "https://hooks.example.com@10.0.0.1/",
        "https://hooks.example.com/#x", "https://hooks.example.com/a b", "https://hooks.example.com/\r\nX: y",
        "https://hooks.example.com\\@10.0.0.1/", "https://hooks.example.com/\\x", "https://hooks.example.com/\x00",
        "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/",
        "https://017700000001/", "https://127.0.0.1.1/", "https://1.2.3.256/", "https://127.0.0.01/",
        "https://a.0x1/", "https://[::1/", "https://[fe80::1%25eth0]/", "https://[1.2.3.4]/", "https://[x]/",
        "https://[::1]x/", "https://hooks.example.com:/", "https://hooks.example.com:0/",
        "https://hooks.example.com:65536/", "https://hooks.example.com:+443/", "https://hooks.example.com:443:443/",
        "https://hooks..example.com/", "https://.example.com/", "https://-x.example.com/", "https://hööks.example/",
        "https://①②⑦.⓪.⓪.①/", "https://127。0。0。1/", "https://%31%32%37.0.0.1/", "https://a.example,10.0.0.1/",
        "https://hooks.example.com/" + "x" * 2048, "https://" + "a" * 64 + ".example/",
    ],
)  # fmt: skip
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    assert code_of(url) == "invalid_webhook_url"
    assert code_of(url, parse_allow_list("0.0.0.0/0,::/0,localhost")) == "invalid_webhook_url"


def test_a_url_is_taken_apart_as_it_is_sent() -> None:
    assert parse_target("HTTPS://Hooks.Example.com./a/b?c=%20&d", NOTHING) == (
        "https", "hooks.example.com", 443, "/a/b?c=%20&d",
    )  # fmt: skip
    assert parse_target("https://hooks.example.com?x", NOTHING).path == "/?x"
    assert parse_target("https://hooks.example.com", NOTHING).host_header == "hooks.example.com"
    assert parse_target("https://[2606:4700:0::1111]:8443/", NOTHING).host_header == "[2606:4700::1111]:8443"
    assert parse_target("https://xn--hks-jnaa.example/", NOTHING).host == "xn--hks-jnaa.example"


def test_an_operator_may_allow_hosts_and_networks_but_not_what_hands_out_credentials() -> None:
    allow = parse_allow_list(" hooks.corp.internal. , 127.0.0.1, 10.1.0.0/16 ,fd00::/8, 169.254.0.0/16,100.64.0.0/10 ")
    assert code_of("http://hooks.corp.internal:8080/x", allow) is None
    assert code_of("http://127.0.0.1:9/x", allow) is None
    assert code_of("http://10.1.2.3/x", allow) is None
    assert code_of("http://[fd00::1]:81/x", allow) is None
    for url in ("http://10.2.0.1/", "http://127.0.0.2/", "http://localhost/", "http://other.corp.internal/"):
        assert code_of(url, allow) == "webhook_address_refused"
    for url in ("http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://100.100.100.200/"):
        assert code_of(url, allow) == "webhook_address_refused"
    named = parse_target("http://hooks.corp.internal/", allow)
    check_address(ip_address("192.168.5.5"), named, allow)
    check_address(ip_address("10.1.9.9"), PUBLIC, allow)
    for address, target in (("10.2.0.1", PUBLIC), ("169.254.169.254", named), ("64:ff9b::a9fe:a9fe", named)):
        with pytest.raises(BadInput):
            check_address(ip_address(address), target, allow)


@pytest.mark.parametrize("text", ["10.1.0.1/16", "http://x", "a b", "1.2.3", "x.0x1", "a.example:80", "*", "*.corp"])
def test_a_list_of_what_is_allowed_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_allow_list(f"fine.example,{text}")
    assert (caught.value.code, caught.value.where) == ("invalid_setting", "TALLY_WEBHOOK_ALLOW")
