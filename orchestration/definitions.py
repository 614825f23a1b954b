"""The code location that `workspace.yaml` names. Nothing is read before Dagster asks for it."""

import dagster as dg

from orchestration.build import build_definitions
from sluiceway.infra import redaction
from sluiceway.infra.settings import load_settings


@dg.definitions
def defs() -> dg.Definitions:
    redaction.install(load_settings())
    return build_definitions()
