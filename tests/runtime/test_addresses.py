import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.addresses import check_address, format_address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("example.org:7000", ("example.org", 7000)),
        ("Example.ORG:7000", ("example.org", 7000)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("7000", ("127.0.0.1", 7000)),
        (":7000", ("127.0.0.1", 7000)),
        (" [::1]:65535 ", ("::1", 65535)),
        ("[0:0:0:0:0:0:0:1]:80", ("::1", 80)),
    ],
)
def test_address_is_read_when_it_is_well_formed(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address
    assert parse_address(format_address(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "host", "host:", "host:x", "::1:80", "host:0", "host:65536", "host:-1", "ho st:80", "\u0663"),
        *("host:" + "9" * 5_000, "h" * 5_000 + ":1", "a\nb:1", "a\0:1", "\ud800:1"),
    ],
)
def test_address_is_refused_in_one_line_when_it_is_none(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_address(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_host_is_refused_when_it_has_brackets() -> None:
    with pytest.raises(ConfigurationError, match="without brackets"):
        check_address("[::1]", 80)
