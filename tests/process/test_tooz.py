"""tooz's own tests of a driver, on ours: they start processes of their own, and sleep."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tooz import tests as suite

from viewstamp.runtime.addresses import format_address
from viewstamp.runtime.local import local_cluster
from viewstamp.services.stock import StockService

pytestmark = [pytest.mark.process, pytest.mark.slow]
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull)
TESTS = 83
DOES_NOT_APPLY = {
    "test_watch_join_group_disappear",  # it is for the drivers that it lists by name
}
LIBRARIES = ("etcd3gw", "pymemcache", "redis", "redis/commands", "redis/commands/core", "sysv_ipc")
"""Of other drivers: the tests import these drivers to recognize them."""
STAND_IN = """KEY_MIN, KEY_MAX = 0, 1

def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (Exception,), {})
"""
"""Any name is an exception, but for two numbers that a driver compares when it is imported."""
ENTRY_POINT = "[tooz.backends]\nviewstamp = viewstamp.adapters.tooz.driver:ViewstampDriver\n"


def test_the_tests_of_tooz_pass(tmp_path: Path) -> None:
    for name in LIBRARIES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(STAND_IN)
    metadata = tmp_path / "tooz_driver-1.0.dist-info"  # a checkout is not always installed
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tooz-driver\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINT)
    report = tmp_path / "report.xml"
    with local_cluster(StockService, replicas=3) as cluster:
        cluster.leader()
        where = ",".join(format_address(address) for address in cluster.config.addresses.values())
        subprocess.run(
            [*PYTEST, f"--junitxml={report}", str(Path(suite.__file__).with_name("test_coordination.py"))],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(tmp_path)]),
                "TOOZ_TEST_URL": f"viewstamp://{where}?request_timeout=30",
            },
            check=False,
            timeout=580,
        )
    cases = list(ET.parse(report).iter("testcase"))
    left_out = {case.get("name") for case in cases if case.find("skipped") is not None}
    failed = [
        case.get("name") for case in cases for bad in ("failure", "error") if case.find(bad) is not None
    ]
    assert (len(cases), failed, left_out) == (TESTS, [], DOES_NOT_APPLY)
