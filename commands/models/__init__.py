"""The domain's rows. Reading is done with their QuerySets, changing through the services."""

from commands.models.access_key import AccessKey, AccessNonce
from commands.models.approval import Approval, ApprovalRule
from commands.models.audit import AuditEvent, AuditHead
from commands.models.command import Command, CommandPin, CommandVersion, Definition
from commands.models.instance import (
    Credential,
    Grant,
    HostKeyChange,
    Instance,
    InstanceTag,
    RefusedLender,
)
from commands.models.inventory import Import, ImportRow
from commands.models.invitation import Departure, Invitation
from commands.models.invocation import Invocation, OutputChunk, Run
from commands.models.notice import Notice, NoticeRule
from commands.models.preflight import Preflight, PreflightCheck
from commands.models.quota import QuotaLedger, QuotaOverride
from commands.models.quota_request import QuotaDay, QuotaRequest
from commands.models.resource_group import ResourceGroup
from commands.models.restriction import Restriction
from commands.models.second_factor import RecoveryCode, SecondFactor
from commands.models.team import Membership, Region, Role, Team, Theme, User

__all__ = [
    "AccessKey",
    "AccessNonce",
    "Approval",
    "ApprovalRule",
    "AuditEvent",
    "AuditHead",
    "Command",
    "CommandPin",
    "CommandVersion",
    "Credential",
    "Definition",
    "Departure",
    "Grant",
    "HostKeyChange",
    "Import",
    "ImportRow",
    "Instance",
    "InstanceTag",
    "Invitation",
    "Invocation",
    "Membership",
    "Notice",
    "NoticeRule",
    "OutputChunk",
    "Preflight",
    "PreflightCheck",
    "QuotaDay",
    "QuotaLedger",
    "QuotaOverride",
    "QuotaRequest",
    "RecoveryCode",
    "RefusedLender",
    "Region",
    "ResourceGroup",
    "Restriction",
    "Role",
    "Run",
    "SecondFactor",
    "Team",
    "Theme",
    "User",
]
