"""Pages, scripts and style sheets travel compressed, with or without a proxy in front.

What is streamed is left alone: the events of a task, which would wait for more of themselves to
come, and the exact bytes of a log.
"""

from __future__ import annotations

import gzip
import re
from functools import lru_cache

from django.http import FileResponse, HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware, re_accepts_gzip
from django.utils.cache import patch_vary_headers

_TEXT = re.compile(r"text/|application/json|image/svg")


class CompressionMiddleware(GZipMiddleware):
    """Compresses pages as Django does, padded by a random length, and each file once for all.

    It stands before WhiteNoise, so that the files which that hands over pass here.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Let WhiteNoise recognise the tag of a file, which became a weak one here."""
        if tag := request.META.get("HTTP_IF_NONE_MATCH"):
            request.META["HTTP_IF_NONE_MATCH"] = tag.removeprefix("W/")

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        """The answer, smaller if the browser can read that."""
        if isinstance(response, FileResponse):
            _compress_file(request, response)
        elif not response.streaming:
            return super().process_response(request, response)
        return response


def _compress_file(request: HttpRequest, response: FileResponse) -> None:
    """Compress a whole file of text; a part of one stays what it is."""
    if response.status_code != 200 or not _TEXT.match(response.headers.get("Content-Type", "")):
        return
    patch_vary_headers(response, ["Accept-Encoding"])
    if request.method != "GET" or not re_accepts_gzip.search(
        request.headers.get("Accept-Encoding", "")
    ):
        return
    body = _compressed(response.getvalue())
    response.streaming_content = [body]
    response.headers["Content-Length"] = str(len(body))
    response.headers["Content-Encoding"] = "gzip"
    response.headers["ETag"] = f"W/{response.headers['ETag']}"


@lru_cache(maxsize=256)
def _compressed(body: bytes) -> bytes:
    return gzip.compress(body, 9, mtime=0)
