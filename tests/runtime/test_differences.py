import msgspec
import pytest

from tests.runtime.fakes import hello_frame, peer_hello, visiting
from tests.runtime.test_transport import lone_node
from viewstamp.link.framing import WELCOME


async def test_other_options_are_logged_once_when_a_member_comes_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with lone_node() as node:
        for options in (1, 1, node.cluster.options_digest, 1):
            hello = peer_hello(node.cluster, 2, options=options)
            async with visiting(node.port, hello_frame(hello)) as member:
                assert (await member.frame())[0] == WELCOME
    told = [line for line in caplog.messages if "runs with other options" in line]
    assert len(told) == 2


async def test_another_version_of_the_class_is_logged_once_when_a_member_comes_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with lone_node() as node:
        door = node.transport.doorkeeper
        door._me = msgspec.structs.replace(door._me, fingerprint=5)
        for fingerprint in (6, 6, 5, 6):
            hello = peer_hello(node.cluster, 2, fingerprint=fingerprint)
            async with visiting(node.port, hello_frame(hello)) as member:
                assert (await member.frame())[0] == WELCOME
    told = [line for line in caplog.messages if "runs other code of" in line]
    assert len(told) == 2
    assert "fingerprints differ" in told[0]


async def test_other_grants_are_logged_once_when_a_member_comes_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with lone_node() as node:
        for grants in (0, 5, 5, 0, 5):
            hello = peer_hello(node.cluster, 2, grants=grants)
            async with visiting(node.port, hello_frame(hello)) as member:
                assert (await member.frame())[0] == WELCOME
    told = [line for line in caplog.messages if "permits other calls" in line]
    assert len(told) == 2
    assert "[[grants]]" in told[0]
