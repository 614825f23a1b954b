"""Great Expectations, and nothing else of it anywhere: suites as files, and the runner that is the gate.

Importing this package costs nothing; Great Expectations is imported (several seconds) when a suite is
first compiled or checked, through `expectations.engine` alone.
"""
