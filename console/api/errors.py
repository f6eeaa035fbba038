"""The only place where domain errors become error codes and statuses of the API."""

from __future__ import annotations

from collections.abc import Mapping

from commands.errors import CommandConsoleError, Conflict, Denied, IdempotencyMismatch, Invalid

STATUSES: Mapping[str, int] = {
    # Signing.
    "MissingParameter": 400,
    "InvalidParameter": 400,
    "IncompleteSignature": 400,
    "SignatureDoesNotMatch": 400,
    "SignatureNonceUsed": 400,
    "IllegalTimestamp": 400,
    "InvalidTimeStamp.Expired": 400,
    "InvalidVersion": 400,
    "InvalidAction.NotFound": 404,
    "InvalidAccessKeyId.NotFound": 404,
    "InvalidRegionId.NotFound": 404,
    "InvalidResourceGroup.NotFound": 404,
    "Throttling.User": 400,
    "Forbidden.RAM": 403,
    # Commands.
    "CmdContent.DecodeError": 400,
    "CmdContent.IllegalCharacter": 400,
    "CmdContent.ExceedLimit": 403,
    "CmdName.ExceedLimit": 403,
    "CmdDesc.ExceedLimit": 403,
    "CmdCount.ExceedQuota": 403,
    "CmdParam.EmptyKey": 400,
    "CmdParam.InvalidParamName": 400,
    "CmdParamCount.ExceedLimit": 403,
    "CmdParamName.ExceedLimit": 403,
    "InvalidCmdId.NotFound": 404,
    "InvalidCmdType.NotFound": 404,
    "InvalidParameterCharacter.CommandName": 403,
    "InvalidParameterCharacter.CommandDescription": 403,
    "InvalidParameterCharacter.CommandWorkingDir": 403,
    "InvalidParameter.WorkingDir": 400,
    "InvalidParameter.Username": 400,
    "InvalidParameter.Launcher": 400,
    "InvalidEnvironmentParameter": 400,
    "InvalidLauncher.LengthLimitExceeded": 403,
    "InvalidTimeout.ExceedLimit": 403,
    "InvalidTimeout.Malformed": 400,
    "InvalidTerminationMode.NotFound": 404,
    "MissingParameter.TagKey": 400,
    "NumberExceed.Tags": 400,
    "Duplicate.TagKey": 400,
    "InvalidTagKey.Malformed": 400,
    "InvalidTagValue.Malformed": 400,
    # Tasks.
    "MissingParam.InstanceId": 400,
    "InvalidInstance.NotFound": 404,
    "InvalidInstance.NotMatch": 400,
    "InstanceIds.ExceedLimit": 403,
    "Invocation.ExceedQuota": 403,
    "InvalidInvokeId.NotFound": 404,
    "InvalidInstanceId.NotFound": 404,
    "Parameter.Disabled": 400,
    "Parameter.MissingValue": 400,
    "Parameter.NotMatched": 403,
    "InvalidParameter.Parameters": 400,
    "InvalidParameter.ParameterDefinitions": 400,
    "InvalidParameterCharset.Parameters": 403,
    "ParameterCount.ExceedLimit": 403,
    "ParameterKey.Duplicate": 403,
    "ParameterKey.ExceedLimit": 403,
    "ParameterType.NotSupported": 403,
    "Username.ExceedLimit": 403,
    "InvalidParam.Frequency": 400,
    "InvalidRepeatMode.NotFound": 404,
    "InvalidClientToken.Malformed": 400,
    "IdempotentParameterMismatch": 403,
    "Operation.Forbidden": 403,
    # Pages of results.
    "InvalidParam.PageNumber": 400,
    "InvalidParam.PageSize": 400,
    "InvalidParameter.MaxResults": 400,
    "InvalidParameter.NextToken": 400,
    "InternalError": 500,
}
"""Every code that an answer can have, and its HTTP status."""

RENAMED: Mapping[str, str] = {
    "InvalidCmdType": "InvalidCmdType.NotFound",
    "InvalidCommand.NotFound": "InvalidCmdId.NotFound",
    "InvalidParameter.TerminationMode": "InvalidTerminationMode.NotFound",
    "InvalidParameterCharacter.name": "InvalidParameterCharacter.CommandName",
    "InvalidParameterCharacter.description": "InvalidParameterCharacter.CommandDescription",
    "InvalidParameterCharacter.workdir": "InvalidParameterCharacter.CommandWorkingDir",
    "InvalidParameterCharacter.run_as": "InvalidParameter.Username",
    "InvalidParameterCharacter.Launcher": "InvalidParameter.Launcher",
    "InvalidParameterCharacter.content": "CmdContent.IllegalCharacter",
    "OperationConflict.ExceedQuota": "Invocation.ExceedQuota",
}
"""Cloud Assistant's words for codes of the console."""
MISMATCH = (
    "The ClientToken came with other parameters before. Repeat a request with the same ones, or "
    "give another request another token."
)
_TOO_LONG: Mapping[str, str] = {
    "name": "CmdName.ExceedLimit",
    "description": "CmdDesc.ExceedLimit",
    "workdir": "InvalidParameter.WorkingDir",
    "run_as": "Username.ExceedLimit",
}
"""The same for what is too long, by the form's field."""


class ApiError(Exception):
    """Why a call is refused: a code that programs know, and a sentence.

    ``wait`` is for how many milliseconds it would be refused again, 0 if that is not known.
    """

    def __init__(self, code: str, message: str, *, wait: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.wait = wait

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return STATUSES[self.code]


def missing(name: str) -> ApiError:
    """The refusal of a call that lacks the parameter ``name``."""
    return ApiError(
        "MissingParameter",
        f'The input parameter "{name}" that is mandatory for processing this request is not '
        "supplied.",
    )


def told(error: CommandConsoleError) -> ApiError:
    """What the API says where a service raises ``error``."""
    if isinstance(error, IdempotencyMismatch):
        return ApiError(error.code, MISMATCH)
    return ApiError(_code(error), error.message)


def _code(error: CommandConsoleError) -> str:
    if isinstance(error, Denied):
        return "Forbidden.RAM"
    if isinstance(error, Conflict) and not isinstance(error, IdempotencyMismatch):
        # Of those only the ones of a call itself have a code that programs know.
        return error.code if error.code in STATUSES else "Operation.Forbidden"
    field = error.field if isinstance(error, Invalid) else ""
    code = _TOO_LONG.get(field, "") if error.code == "ExceedLimit" else ""
    code = code or RENAMED.get(error.code, error.code)
    if code in STATUSES:
        return code
    return "InvalidParameter" if isinstance(error, Invalid) else "InternalError"
