"""The code location that `workspace.yaml` names. Nothing is read before Dagster asks for it."""

import dagster as dg

from orchestration.build import build_definitions


@dg.definitions
def defs() -> dg.Definitions:
    return build_definitions()
