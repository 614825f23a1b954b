"""Great Expectations over a day of silver, as Dagster asset checks (written by hand: the integration
package pins Great Expectations below 1.0). The live path's verdicts arrive under the same names through
the streaming sensor."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from orchestration.failing import without_secrets
from orchestration.naming import silver_key
from orchestration.resources import Platform
from sluiceway.catalog.contracts import Pipeline
from sluiceway.quality.contracts import ExpectationOutcome, SuiteSpec

SEVERITY = {
    "warn": dg.AssetCheckSeverity.WARN,
    "quarantine": dg.AssetCheckSeverity.WARN,
    "hold": dg.AssetCheckSeverity.ERROR,
}
DEEP_WINDOW = timedelta(days=1)


def silver_checks(pipeline: Pipeline, suite: SuiteSpec) -> dg.AssetChecksDefinition:
    key = silver_key(pipeline)

    @dg.multi_asset_check(
        name=f"{pipeline.silver_table}_suite",
        specs=[
            dg.AssetCheckSpec(name=check_name(e.name), asset=key, description=e.description or e.type)
            for e in suite.expectations
        ],
        required_resource_keys={"platform"},
        can_subset=True,
        pool="silver",
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        platform: Platform = context.resources.platform
        wanted = {selected.name for selected in context.selected_asset_check_keys}
        for outcome in deep_check(platform, platform.pipeline(pipeline.id)):
            if check_name(outcome.expectation) not in wanted:
                continue
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=check_name(outcome.expectation),
                passed=outcome.success,
                severity=SEVERITY[outcome.action],
                metadata={
                    "evaluated": outcome.evaluated,
                    "unexpected": outcome.unexpected,
                    "action": outcome.action,
                },
            )

    return checks


@without_secrets()
def deep_check(platform: Platform, pipeline: Pipeline) -> tuple[ExpectationOutcome, ...]:
    """The whole suite over the silver rows received in the last day; results are kept as origin `deep`."""
    from expectations.deep import deep_check_silver

    now = datetime.now(UTC)
    return deep_check_silver(platform.database, platform.gate, pipeline, now - DEEP_WINDOW, now)


def check_name(expectation: str) -> str:
    """Dagster's names know no dash."""
    return expectation.replace("-", "_")
