"""The domain's rows. Reading is done with their QuerySets, changing through the services."""

from commands.models.command import Command, CommandPin, CommandVersion, Definition
from commands.models.instance import Credential, Grant, Instance, InstanceTag
from commands.models.invocation import Invocation, OutputChunk, Run
from commands.models.quota import QuotaLedger, QuotaOverride
from commands.models.team import Membership, Region, Role, Team, User

__all__ = [
    "Command",
    "CommandPin",
    "CommandVersion",
    "Credential",
    "Definition",
    "Grant",
    "Instance",
    "InstanceTag",
    "Invocation",
    "Membership",
    "OutputChunk",
    "QuotaLedger",
    "QuotaOverride",
    "Region",
    "Role",
    "Run",
    "Team",
    "User",
]
