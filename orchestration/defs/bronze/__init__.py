"""Bronze assets: the raw events of a pipeline, a day at a time."""
