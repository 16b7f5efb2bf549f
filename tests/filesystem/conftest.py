"""Real mounts are left out where nothing can be mounted; the header of the run says so."""

from tests.process.conftest import make_group  # noqa: F401  a fixture
from viewstamp.filesystem import device

WHY = device.unusable()
collect_ignore = [] if WHY is None else ["test_mounts.py"]


def pytest_report_header() -> str | None:
    return None if WHY is None else f"without tests/filesystem/test_mounts.py: {WHY}"
