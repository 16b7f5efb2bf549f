"""Streams that a test keeps: replayed, and a difference is an AssertionError that names the file."""

from pathlib import Path

import pytest

from tests.backup.shops import Shop, shop_log, stream_of
from viewstamp import testing
from viewstamp.backup.golden import replays
from viewstamp.core.errors import ConfigurationError
from viewstamp.machine.state_machine import command


class Dear(Shop):
    @command
    def buy(self, item: str, amount: int = 1) -> int:
        return 1_000 + Shop.buy.function(self, item, amount)


Dear.__name__ = "Shop"


def test_all_streams_are_replayed(tmp_path: Path) -> None:
    for number in (10, 20):
        (tmp_path / f"{number}.vss").write_bytes(stream_of(shop_log(number)))
    assert replays(tmp_path / "*.vss", Shop) == 32
    assert replays(tmp_path / "*.vss", Shop, against=Shop) == 32


def test_difference_names_the_file_and_the_entry(tmp_path: Path) -> None:
    (tmp_path / "a.vss").write_bytes(stream_of(shop_log(50)))
    with pytest.raises(AssertionError, match=r"a\.vss: entry \d+ .*buy"):
        replays(tmp_path / "*.vss", Dear)
    assert replays(tmp_path / "*.vss", Dear, allow=("buy",)) == 51


def test_truncated_stream_fails(tmp_path: Path) -> None:
    (tmp_path / "a.vss").write_bytes(stream_of(shop_log(50))[:-1])
    with pytest.raises(AssertionError, match="without its end record"):
        replays(tmp_path / "a.vss", Shop)


def test_testing_offers_it() -> None:
    assert testing.replays is replays


def test_pattern_that_fits_nothing_fails(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing was replayed"):
        replays(tmp_path / "*.vss", Shop)
