"""docs/people.md says what the code says: every permission, from which role, and every code of an error."""

import re
from pathlib import Path

from sluiceway.identity import errors
from sluiceway.identity.permissions import GRANTABLE, ROLE_PERMISSIONS, MemberRole

PAGE = (Path(__file__).parents[2] / "docs" / "people.md").read_text()


def test_every_permission_is_listed_with_the_least_role_that_has_it() -> None:
    found = {}
    for names, role in re.findall(r"^\| (`[a-z_]+:.*?) \| .* \| (\w+) \|$", PAGE, re.MULTILINE):
        found |= dict.fromkeys(re.findall(r"`([^`]+)`", names), role)
    least = {
        permission: [role for role in MemberRole if permission in ROLE_PERMISSIONS[role]][-1]
        for permission in GRANTABLE
    }
    assert found == least


def test_every_code_is_listed() -> None:
    of_people = (
        "Role", "Team", "Member", "Owner", "Invitation", "Invited", "Workspace", "Preferences", "People",
    )  # fmt: skip
    codes = {
        error.code
        for name, error in vars(errors).items()
        if isinstance(error, type) and any(part in name for part in of_people)
    }
    assert len(codes) >= 14
    assert sorted(code for code in codes if f"`{code}`" not in PAGE) == []
