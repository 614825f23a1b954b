"""What can be wrong with a pipeline, as errors with stable codes."""

from sluiceway.kit.errors import Conflict, InvalidInput, NotFound, SluicewayError


class InvalidPipeline(InvalidInput):
    code = "invalid_pipeline"
    title = "The pipeline is not valid"


class IncompatibleChange(Conflict):
    code = "incompatible_change"
    title = "The change does not fit the data that is already there"


class PipelineNotFound(NotFound):
    code = "pipeline_not_found"
    title = "There is no such pipeline"


class PipelineArchived(Conflict):
    code = "pipeline_archived"
    title = "The pipeline is archived"


class StoredVersionUnreadable(SluicewayError):
    """A version that was kept cannot be understood any more, not even by its shape."""

    code = "stored_version_unreadable"
    title = "A stored version cannot be read"
