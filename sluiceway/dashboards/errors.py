"""What can be wrong with a dashboard, as errors with stable codes."""

from sluiceway.kit.errors import Conflict, InvalidInput, NotFound


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
