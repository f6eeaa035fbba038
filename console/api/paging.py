"""Pages of results: by number and size with a total, or by a token for what comes next."""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from commands.rules import limits
from console.api.errors import ApiError
from console.api.wire import Parameters

Row = TypeVar("Row", bound=Model)


def page(
    parameters: Parameters,
    rows: QuerySet[Row],
    *,
    most: int = limits.API_PAGE_MAX,
) -> tuple[list[Row], dict[str, Any]]:
    """The page of ``rows``, newest first, that is asked for, and what the answer says of it.

    Raises ApiError.
    """
    rows = rows.order_by("-pk")
    total = rows.count()
    if "MaxResults" in parameters or "NextToken" in parameters:
        size = parameters.number(
            "MaxResults", limits.API_PAGE, most=most, code="InvalidParameter.MaxResults"
        )
        if "NextToken" in parameters:
            rows = rows.filter(pk__lt=_place(parameters.text("NextToken")))
        found = list(rows[: size + 1])
        token = _token(found[size - 1]) if len(found) > size else ""
        told = {"NextToken": token, "PageNumber": 1, "PageSize": size, "TotalCount": total}
        return found[:size], told
    number = parameters.number("PageNumber", 1, most=10**9, code="InvalidParam.PageNumber")
    size = parameters.number("PageSize", limits.API_PAGE, most=most, code="InvalidParam.PageSize")
    first = (number - 1) * size
    told = {"NextToken": "", "PageNumber": number, "PageSize": size, "TotalCount": total}
    if first >= total:
        return [], told
    return list(rows[first : first + size]), told


def _token(row: Model) -> str:
    return base64.urlsafe_b64encode(f"after {row.pk}".encode()).decode()


def _place(token: str) -> int:
    try:
        word, _, number = base64.urlsafe_b64decode(token.encode()).decode().partition(" ")
    except (binascii.Error, ValueError):
        word = number = ""
    if word != "after" or not (number.isascii() and number.isdecimal() and len(number) < 19):
        raise ApiError(
            "InvalidParameter.NextToken", "The specified parameter NextToken is not valid."
        )
    return int(number)
