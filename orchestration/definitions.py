"""The code location that `workspace.yaml` names. Nothing is read before Dagster asks for it."""

import dagster as dg

from orchestration.build import build_definitions
from orchestration.failing import without_secrets
from sluiceway.infra import redaction
from sluiceway.infra.settings import load_settings


@dg.definitions
def defs() -> dg.Definitions:
    redaction.install(load_settings())
    with without_secrets():
        return build_definitions()
