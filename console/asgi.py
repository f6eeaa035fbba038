"""The ASGI application that a web server runs."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

from console.bodies import BodyLimit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")

application = BodyLimit(get_asgi_application())
