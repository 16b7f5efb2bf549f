from random import Random
from xml.etree import ElementTree as ET

from tests.checker.histories import store_history
from viewstamp.checker.drawing import DRAWN_MAX, draw_html, draw_svg, draw_text
from viewstamp.checker.history import Operation

WRITE = Operation(1, 0, 20, "write", "x", (1,), "ok")
READ = Operation(12, 10, 30, "read", "x", (), "ok", 1)
LOST = Operation("bob", 25, None, "write", "x", ("<&>",), "unknown")


def test_text_shows_what_overlaps_when_a_history_is_drawn() -> None:
    assert draw_text([LOST, READ, WRITE], marked=[READ]) == (
        "  1  |-|     write('x', 1) -> None\n"
        " 12   |--|   read('x') -> 1   <- here\n"
        "bob     |->  write('x', '<&>') -> unknown"
    )


def test_svg_is_well_formed_and_marks_the_failing_call_when_values_contain_markup() -> None:
    root = ET.fromstring(draw_svg([WRITE, READ, LOST], "a <title> & more", marked=[READ]))
    bars = [bar for bar in root.iter("{http://www.w3.org/2000/svg}rect") if bar.get("stroke")]
    assert [bar.get("stroke") for bar in bars] == ["#5b7fa6", "#c62828", "#5b7fa6"]
    assert len({bar.get("y") for bar in bars}) == 3
    assert any("<&>" in (text.text or "") for text in root.iter("{http://www.w3.org/2000/svg}text"))


def test_client_gets_several_rows_when_its_calls_overlap() -> None:
    again = Operation(1, 10, 30, "read", "x", (), "ok", 1)
    root = ET.fromstring(draw_svg([WRITE, again], "pipelined"))
    bars = [bar for bar in root.iter("{http://www.w3.org/2000/svg}rect") if bar.get("stroke")]
    assert bars[0].get("y") != bars[1].get("y")


def test_page_refers_to_nothing_outside_when_it_is_written() -> None:
    page = draw_html([WRITE, READ], "history", "verdict <ok>")
    assert "verdict &lt;ok&gt;" in page
    assert "src=" not in page
    assert "href=" not in page


def test_only_the_end_is_drawn_when_a_history_is_long() -> None:
    history = store_history(Random(1), DRAWN_MAX + 100)
    assert len(draw_text(history).splitlines()) == DRAWN_MAX


def test_empty_history_is_an_empty_drawing() -> None:
    assert not draw_text([])
    ET.fromstring(draw_svg([], "nothing"))
