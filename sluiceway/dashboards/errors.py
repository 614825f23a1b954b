"""What can be wrong with a dashboard, as errors with stable codes."""

from sluiceway.kit.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated


class InvalidDashboard(InvalidInput):
    code = "invalid_dashboard"
    title = "The dashboard is not valid"


class InvalidLayout(InvalidInput):
    code = "invalid_layout"
    title = "The layout is not valid"


class DashboardNotFound(NotFound):
    code = "dashboard_not_found"
    title = "There is no such dashboard"


class DashboardExists(Conflict):
    code = "dashboard_exists"
    title = "There is a dashboard of this name already"


class DashboardChangedMeanwhile(Conflict):
    """Its `extra` says what the current version is."""

    code = "version_conflict"
    title = "The dashboard was changed by someone else meanwhile"


class InvalidLink(InvalidInput):
    code = "invalid_link"
    title = "The link cannot be made"


class LinkNotFound(NotFound):
    """Unknown, revoked or expired: which of them is not told."""

    code = "link_not_found"
    title = "This link does not work"


class LinkPasswordRequired(Unauthenticated):
    code = "link_password_required"
    title = "The link asks for a password"


class WrongLinkPassword(Unauthenticated):
    code = "wrong_link_password"
    title = "The password is wrong"


class LinkAccessEnded(Unauthenticated):
    code = "link_access_ended"
    title = "Open the link again"


class NotInLink(Forbidden):
    code = "not_in_link"
    title = "The link does not show this"
