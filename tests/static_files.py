"""What spares each test client a walk through all static files.

Every client builds its middleware anew, and WhiteNoise looks for files when it is built: that
took a sixth of the time of tests of pages. The files do not change meanwhile.
"""

from __future__ import annotations

from whitenoise.middleware import WhiteNoiseMiddleware

_look = WhiteNoiseMiddleware.add_files_from_finders
_found: dict[str, object] = {}


def install() -> None:
    """Let all clients of this process share what the first one found."""
    WhiteNoiseMiddleware.add_files_from_finders = _once


def _once(middleware: WhiteNoiseMiddleware) -> None:
    if not _found:
        _look(middleware)
        _found.update(middleware.files)
    middleware.files.update(_found)
