"""Django wants its settings before it is used."""

from django.conf import settings

if not settings.configured:
    settings.configure(SECRET_KEY="of the tests", SECRET_KEY_FALLBACKS=["the one before"])
