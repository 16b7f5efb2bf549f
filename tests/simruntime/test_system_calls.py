"""The reader of strace's lines that a process test judges by (`tests.process.system_calls`)."""

from pathlib import Path

from tests.process.system_calls import judge


def test_an_answer_before_its_sync_is_seen() -> None:
    lines = [
        '7 pwrite64(5</d/journal/1.wal>, ""..., 64, 0) = 64',
        "8 fdatasync(5</d/journal/1.wal> <unfinished ...>",
        '7 sendto(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, ""..., 9, 0, NULL, 0) = 9',
        "8 <... fdatasync resumed>)          = 0",
        '7 sendto(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, ""..., 9, 0, NULL, 0) = 9',
    ]
    assert judge("\n".join(lines), Path("/d/journal")).violations == [
        "call 2 sends while /d/journal/1.wal is not synced"
    ]
    lines = [
        '7 pwrite64(5</d/journal/spare.tmp>, ""..., 64, 0) = 64',
        '7 rename("/d/journal/spare.tmp", "/d/journal/2.wal") = 0',
        '7 sendto(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, ""..., 9, 0, NULL, 0) = 9',
        "7 fsync(6</d/journal>)              = 0",
    ]
    assert judge("\n".join(lines), Path("/d/journal")).violations == [
        "call 1 renames /d/journal/spare.tmp, which is not synced",
        "call 2 sends while /d/journal is not synced",
    ]
