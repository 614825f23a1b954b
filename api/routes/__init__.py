"""One module a noun; each has a `router`. A route parses, asks permission, calls a service, answers."""
