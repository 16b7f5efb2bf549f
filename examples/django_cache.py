"""A cache and a lock of Django on three replicas: the leader is killed, and the counter goes on."""

from django.conf import settings
from django.core.cache import caches

import viewstamp
from viewstamp.services.stock import StockService


def main() -> None:
    with viewstamp.local_cluster(StockService) as cluster:
        cluster.leader()
        if not settings.configured:
            settings.configure(SECRET_KEY="of the example")  # noqa: S106
        settings.CACHES = {
            "default": {
                "BACKEND": "viewstamp.adapters.django.ViewstampCache",
                "LOCATION": cluster.config,
            }
        }
        cache = caches["default"]
        cache.set("visits", 41, timeout=60)
        cluster.kill(cluster.leader())
        print("visits:", cache.incr("visits"))
        with cache.lock("import") as held:
            print("the lock is ours:", held.token > 0)
        cache.clear()
        cache.disconnect()


if __name__ == "__main__":
    main()
