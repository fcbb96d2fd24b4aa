"""Where others may make us send something: the public internet over TLS, and what the operator allows."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from shared.targets import Allowance, BadTarget, Target, check_address, check_all, is_special, read_allowance, read_url

NOBODY = Allowance()
PUBLIC = ip_address("93.184.215.14")


def embedded(prefix: str, address: IPv4Address) -> IPv6Address:
    return IPv6Address(int(IPv6Address(prefix)) | int(address))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "0.0.0.0", "0.1.2.3",
     "100.64.0.1", "100.127.255.255", "100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
     "192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
     "::", "::1", "::7f00:1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "2001::1", "2001:10::1",
     "2002:7f00:1::", "2002:5db8:d70e::1", "3fff::1", "5f00::1", "100::1", "64:ff9b:1::1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe",
     "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"],
)  # fmt: skip
def test_these_addresses_are_not_of_the_public_internet(address: str) -> None:
    assert is_special(ip_address(address))
    with pytest.raises(BadTarget, match="ANSWERLINE_WEBHOOK_ALLOW"):
        check_address(Target("https", "name.example", 443, "/"), ip_address(address), NOBODY)


@pytest.mark.parametrize(
    "address",
    ["93.184.215.14", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "198.17.0.1", "223.255.255.255", "2606:4700::1111",
     "2a00:1450:4001::1", "2001:4860:4860::8888", "64:ff9b::5db8:d70e", "::ffff:93.184.215.14"],
)  # fmt: skip
def test_these_addresses_are(address: str) -> None:
    assert not is_special(ip_address(address))
    check_address(Target("https", "name.example", 443, "/"), ip_address(address), NOBODY)


@given(st.ip_addresses(v=4))
@example(IPv4Address("127.0.0.1"))
def test_an_ipv4_address_is_what_it_is_however_it_is_dressed(address: IPv4Address) -> None:
    assert is_special(address) == is_special(embedded("::ffff:0:0", address)) == is_special(embedded("64:ff9b::", address))


@given(st.ip_addresses())
def test_what_the_standard_library_calls_inner_is_never_public(address: IPv4Address | IPv6Address) -> None:
    plain = isinstance(address, IPv4Address) or not (address.ipv4_mapped or address in ip_network("64:ff9b::/96"))
    inner = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved
    assume(plain and (inner or address.is_private))
    assert is_special(address) or address in ip_network("192.0.0.0/24")


@given(st.text(max_size=60) | st.from_regex(r"https?://[ -~]{1,40}", fullmatch=True))
@example("https://2130706433/")
@example("https://0x7f.1/")
@example("https://[::ffff:127.0.0.1]/")
@example("http://example.com")
def test_any_text_is_refused_or_a_public_target_over_tls(text: str) -> None:
    try:
        target = read_url(text, NOBODY)
    except BadTarget as error:
        assert str(error)
        return
    assert target.scheme == "https"
    assert target.path.startswith("/")
    assert not set(target.host) & set("@/\\#? \r\n%")
    try:
        address = ip_address(target.host)
    except ValueError:
        assert not target.host.rpartition(".")[2].isdigit(), "a resolver might take it for an address"
        return
    assert not is_special(address)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://CRM.example.com/in?a=b%20c", Target("https", "crm.example.com", 443, "/in?a=b%20c")),
        ("https://crm.example.com:8443", Target("https", "crm.example.com", 8443, "/")),
        ("https://[2606:4700::1111]/x", Target("https", "2606:4700::1111", 443, "/x")),
        ("https://xn--bcher-kva.example/?q", Target("https", "xn--bcher-kva.example", 443, "/?q")),
    ],
)
def test_a_url_is_taken_apart(url: str, target: Target) -> None:
    assert read_url(url, NOBODY) == target


def test_the_host_header_has_brackets_and_the_port_where_it_is_not_the_usual_one() -> None:
    authorities = [
        read_url(url, NOBODY).authority for url in ("https://a.example/", "https://a.example:8443/", "https://[2606:4700::1]:8443/")
    ]
    assert authorities == ["a.example", "a.example:8443", "[2606:4700::1]:8443"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://crm.example.com/", "use https"),
        ("ftp://crm.example.com/", "begins with https"),
        ("https:///x", "the name of a host"),
        ("crm.example.com", "begins with https"),
        ("https://user:secret@crm.example.com/", "no user or password"),
        ("https://crm.example.com/#x", "no fragment"),
        ("https://crm.example.com:0/", "port"),
        ("https://crm.example.com:99999/", "no URL"),
        ("https://crm.example.com\\@127.0.0.1/", "plain ASCII"),
        ("https://crm.example.com/\r\nX: y", "plain ASCII"),
        ("https://bücher.example/", "plain ASCII"),
        ("https://crm.example.com/" + "x" * 2000, "at most 2000"),
        ("https://127.0.0.1/", "not on the public internet"),
        ("https://[::1]/", "not on the public internet"),
        ("https://[fe80::1%25eth0]/", "neither"),
        ("https://169.254.169.254/latest/meta-data/", "not on the public internet"),
        ("https://localhost:8000/v1/keys", "not on the public internet"),
        ("https://db.localhost/", "not on the public internet"),
        ("https://127.1/", "neither"),
        ("https://2130706433/", "neither"),
        ("https://0x7f000001/", "neither"),
        ("https://0177.0.0.1/", "neither"),
        ("https://-x.example/", "neither"),
        ("https://x..example/", "neither"),
        ("https://x.example./", "neither"),
    ],
)
def test_a_url_that_nothing_is_sent_to_is_told_why(url: str, why: str) -> None:
    with pytest.raises(BadTarget, match=why):
        read_url(url, NOBODY)


def test_what_the_operator_allows_is_spoken_to_without_tls_too() -> None:
    allowance = read_allowance("10.1.0.0/16, 192.168.7.7 crm.internal\nfd00::/8")
    for url in ("http://10.1.2.3:8080/", "https://10.1.2.3/", "http://192.168.7.7/", "http://crm.internal/", "https://[fd00::1]/"):
        read_url(url, allowance)
    for url in ("https://10.2.0.1/", "http://93.184.215.14/", "https://127.0.0.1/"):
        with pytest.raises(BadTarget):
            read_url(url, allowance)
    crm, other = read_url("http://crm.internal/", allowance), read_url("http://other.internal/", allowance)
    for address in ("10.9.9.9", "127.0.0.1", "fd00::1", "93.184.215.14"):
        check_address(crm, ip_address(address), allowance)
    check_address(other, ip_address("10.1.9.9"), allowance)
    with pytest.raises(BadTarget, match="use https"):
        check_address(other, PUBLIC, allowance)
    with pytest.raises(BadTarget, match="not on the public internet"):
        check_address(other, ip_address("10.2.0.1"), allowance)


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "::ffff:169.254.169.254"])
def test_a_name_that_is_allowed_never_stands_for_the_clouds_metadata(address: str) -> None:
    allowance = read_allowance("crm.internal")
    with pytest.raises(BadTarget):
        check_address(read_url("http://crm.internal/", allowance), ip_address(address), allowance)


@given(st.ip_addresses(v=4), st.integers(min_value=8, max_value=32))
def test_a_network_that_is_allowed_is_allowed_whole_and_nothing_beside_it(address: IPv4Address, length: int) -> None:
    network = ip_network(f"{address}/{length}", strict=False)
    allowance, target = read_allowance(str(network)), Target("https", "name.example", 443, "/")
    for inside in (network[0], network[-1], embedded("::ffff:0:0", network[0])):
        check_address(target, inside, allowance)
    for outside in (int(network[0]) - 1, int(network[-1]) + 1):
        if 0 <= outside < 2**32 and is_special(IPv4Address(outside)):
            with pytest.raises(BadTarget):
                check_address(target, IPv4Address(outside), allowance)


def test_one_inner_address_among_public_ones_refuses_the_name() -> None:
    target = read_url("https://mixed.example/", NOBODY)
    check_all(target, [PUBLIC], NOBODY)
    for inner in ("10.0.0.1", "::1"):
        with pytest.raises(BadTarget, match="not on the public internet"):
            check_all(target, [PUBLIC, ip_address(inner)], NOBODY)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "300.1.1.1", "http://crm.internal", "crm internal/", "*.internal", "10.0.0.0/33"])
def test_an_allowance_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no network"):
        read_allowance(text)
