"""The options of both forms, and where each form may be named."""

import msgspec
import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.protocols.primary_backup import COURSE, DEFINITION, CourseOptions, PrimaryBackupOptions
from viewstamp.protocols.registry import LABORATORY_NAMES, PROTOCOL_NAMES, protocol_definition


@pytest.mark.parametrize(
    ("name", "value"), [("heartbeat_ms", 0), ("reads_max", -1), ("silence_ms", 150), ("log_bytes_max", 0)]
)
def test_option_is_refused_when_it_cannot_be(name: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=name):
        PrimaryBackupOptions(**{name: value})  # type: ignore[arg-type]


def test_courses_option_is_refused_when_it_cannot_be() -> None:
    with pytest.raises(ConfigurationError, match="catch_up_window"):
        CourseOptions(catch_up_window=0)


def test_mode_cannot_be_changed_when_a_cluster_file_says_so() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"mode": "course"}, PrimaryBackupOptions)


def test_courses_form_is_for_laboratories_when_it_is_looked_up() -> None:
    assert protocol_definition("primary_backup") is DEFINITION
    assert protocol_definition("primary_backup_course") is COURSE
    assert "primary_backup_course" in LABORATORY_NAMES
    assert "primary_backup_course" not in PROTOCOL_NAMES
    assert not COURSE.guarantees.safe_under_partition
    assert DEFINITION.guarantees.safe_under_partition
