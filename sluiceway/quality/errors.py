"""What can go wrong between people and the quality slice."""

from sluiceway.kit.errors import Conflict, InvalidInput, NotFound


class InvalidSuite(InvalidInput):
    code = "invalid_suite"
    title = "The suite is not valid"


class SuiteNotFound(NotFound):
    code = "suite_not_found"
    title = "No such suite"


class DeadLetterNotFound(NotFound):
    code = "dead_letter_not_found"
    title = "No such dead letter"


class PayloadWithheld(NotFound):
    """A row rule or a column mask concerns whoever asks."""

    code = "payload_withheld"
    title = "The payload is not there for you"


class DeadLetterResolved(Conflict):
    code = "dead_letter_resolved"
    title = "The dead letter has been retried"
