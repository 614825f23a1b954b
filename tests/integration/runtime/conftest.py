"""What tests of the running parts share."""

from tests.support.command_line import run

__all__ = ["run"]
