"""A cache backend of Django, and locks.

`cache` is the backend, `values` how a value is written, `client` what it needs of a cluster.

CACHES = {"default": {"BACKEND": "viewstamp.adapters.django.ViewstampCache", "LOCATION": "prod.toml"}}
"""

from viewstamp.adapters.django.cache import ViewstampCache

__all__ = ["ViewstampCache"]
