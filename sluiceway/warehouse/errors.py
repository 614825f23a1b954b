"""What can go wrong between a loader and the warehouse."""

from sluiceway.kit.errors import Conflict, NotFound


class CursorMoved(Conflict):
    """Another loader has taken part of the batch's stretch: read the cursors again and prepare anew."""

    code = "cursor_moved"
    title = "The spool's cursor has moved"
    retryable = True


class PipelineBusy(Conflict):
    """Another transaction, a replay say, holds the pipeline's lock: a live batch does not wait for it."""

    code = "pipeline_busy"
    title = "Another transaction is loading the pipeline"
    retryable = True


class PipelineGone(NotFound):
    """The pipeline was removed while its events were on their way."""

    code = "pipeline_gone"
    title = "The pipeline is not there any more"
