"""Keeping what a person prefers, for the JSON route and for the page alike."""

from dataclasses import asdict

from starlette.requests import Request

from api.auditing import note
from api.deps import catalog, person_id
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.identity.contracts import Caller
from sluiceway.identity.preferences import Preferences, set_preferences


def prefer(request: Request, services: ApiServices, caller: Caller, wanted: Preferences) -> Preferences:
    """Replace all of the caller's preferences; returns what they are then. Raises `InvalidPreferences`."""
    with catalog(services, caller) as conn:
        before, after = set_preferences(conn, caller.workspace_id, person_id(caller), wanted)
        note(
            request, conn, caller, Action.PERSON_PREFERENCES_CHANGED, target="person",
            target_id=caller.user_id, before=asdict(before), after=asdict(after),
        )  # fmt: skip
    return after
