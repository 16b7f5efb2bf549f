"""Run the tests that Django has for its cache backends against ours, on three replicas in this process.

They are not part of Django's package: give the folder `tests` of its source archive. Arguments behind it are
names of tests. Exit code 1: one of them failed.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import django
from django.conf import settings

from viewstamp.runtime.local import local_cluster
from viewstamp.services.stock import StockService

NOT_OURS = {
    "test_cull": "keys end by themselves: MAX_ENTRIES does not apply",
    "test_zero_cull": "likewise",
    "test_cull_delete_when_store_empty": "likewise",
}


def run(folder: Path, wanted: list[str], where: Any) -> int:
    sys.path.insert(0, str(folder))
    settings.configure(
        SECRET_KEY="of the tests",
        INSTALLED_APPS=["cache"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        ROOT_URLCONF="",
        MIDDLEWARE=[],
        USE_TZ=False,
    )
    django.setup()
    from cache.tests import (  # type: ignore[import-not-found]
        BaseCacheTests,
        caches_setting_for_tests,
    )
    from django.test import TestCase, override_settings
    from django.test.runner import DiscoverRunner

    params = {"BACKEND": "viewstamp.adapters.django.ViewstampCache", "LOCATION": where}
    kept = {name: None for name in NOT_OURS if hasattr(BaseCacheTests, name)}
    suite_class: Any = type("ViewstampCacheTests", (BaseCacheTests, TestCase), kept)
    suite_class = override_settings(CACHES=caches_setting_for_tests(**params))(suite_class)
    runner = DiscoverRunner(verbosity=1)
    loaded = runner.test_loader.loadTestsFromTestCase(suite_class)
    chosen = [test for test in loaded if not wanted or test.id().split(".")[-1] in wanted]
    runner.setup_test_environment()
    databases = runner.setup_databases()
    try:
        result = runner.run_suite(runner.test_suite(chosen))
    finally:
        runner.teardown_databases(databases)
        runner.teardown_test_environment()
    skipped = {test.id().split(".")[-1]: why for test, why in result.skipped}
    for name, why in sorted({**NOT_OURS, **skipped}.items()):
        print(f"left out: {name}: {why}")
    return len(result.failures) + len(result.errors)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("wanted", nargs="*")
    given = parser.parse_args()
    with local_cluster(StockService) as cluster:
        cluster.leader()
        return 1 if run(given.folder, given.wanted, cluster.config) else 0


if __name__ == "__main__":
    sys.exit(main())
