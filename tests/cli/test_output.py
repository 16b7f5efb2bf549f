"""What is printed stays on its line and cannot steer a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewstamp.cli.kv import shown
from viewstamp.cli.output import printable, quoted, show_table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ascii", "plain ascii"),
        ("naïve 値", "naïve 値"),
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
        ("\U000e0001", "\\U000e0001"),
        ("C:\\temp", "C:\\temp"),
    ],
)
def test_control_characters_are_spelt_out_when_text_is_printed(text: str, expected: str) -> None:
    assert printable(text) == expected


@given(st.text(), st.text())
def test_two_keys_never_look_the_same_when_quoted(one: str, other: str) -> None:
    assert (quoted(one) == quoted(other)) == (one == other)
    assert quoted(one).isprintable()


@given(st.binary())
def test_values_are_printable_whatever_bytes_they_hold(value: bytes) -> None:
    assert shown(value).isprintable()


def test_cells_are_aligned_and_escaped_when_a_table_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(["A", "LONG"], [["x\n", 1], ["yyyy", 22]])
    assert capsys.readouterr().out == "A     LONG\nx\\n   1\nyyyy  22\n"
