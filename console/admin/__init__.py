"""The admin site, ``/admin/``: what the console's administrators look at and decide on.

Everything goes through the services: whoever is staff and has Django's permission for a page may
open it, and then what a service refuses is refused here, too.
"""

from console.admin import (
    inventory,
    keys,
    people,
    quota_requests,
    quotas,
    tasks,
    trail,
)

__all__ = ["inventory", "keys", "people", "quota_requests", "quotas", "tasks", "trail"]
