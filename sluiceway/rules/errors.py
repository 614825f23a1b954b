"""What can go wrong between people and row rules."""

from sluiceway.kit.errors import Conflict, InvalidInput, NotFound, Unavailable


class InvalidRule(InvalidInput):
    code = "invalid_rule"
    title = "The rule is not valid"


class RuleNotFound(NotFound):
    code = "rule_not_found"
    title = "No such rule"


class RuleChanged(Conflict):
    code = "rule_changed"
    title = "Somebody else has changed the rule"


class RulesBusy(Unavailable):
    """The table is in use, so that its policy cannot be changed just now."""

    code = "rules_busy"
    title = "The data is busy"
