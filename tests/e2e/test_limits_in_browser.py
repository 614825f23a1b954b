"""Limits in a real browser: a key with a rate, a pipeline that holds its senders back and says so."""

import httpx
import pytest
from playwright.sync_api import Page, expect

from sluiceway.runtime.applying import apply_source
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.browser

LIMITED = """\
kind: Pipeline
name: limited
title: Limited
description: Takes four events, then one each quarter of an hour.
fields: [{name: n, type: integer}]
limits: {events_per_s: 0.001, burst: 4, event_bytes: 2048}
"""


def test_a_pipeline_says_that_it_holds_senders_back(page: Page, platform: RunningPlatform) -> None:
    apply_source(platform.database, 1, LIMITED)
    headers = {"Authorization": f"Bearer {platform.ingest_key}"}
    address = f"{platform.url}/v1/pipelines/limited/events"
    page.goto(f"{platform.url}/pipeline?slug=limited")
    expect(page.locator(".sw-facts")).to_contain_text("Open")
    answers = [httpx.post(address, json={"n": n}, headers=headers).status_code for n in range(7)]
    assert answers == [202] * 4 + [429] * 3
    expect(page.locator(".sw-facts")).to_contain_text("Throttled")
    page.get_by_role("tab", name="Limits").click()
    for text in (
        "0.06/min, 4 at once",
        "One event",
        "2.0 kB",
        "More came than a rate allows",
        "rate_limited",
    ):
        expect(page.get_by_role("tabpanel").filter(has_text="Limit")).to_contain_text(text)
    page.goto(f"{platform.url}/pipelines")
    expect(page.locator(".st-key-row-limited")).to_contain_text("Throttled")
    expect(page.locator(".st-key-row-nyc-flights")).to_contain_text("Open")


def test_a_key_is_made_with_a_rate(page: Page, platform: RunningPlatform) -> None:
    page.goto(f"{platform.url}/keys")
    page.get_by_role("button", name="New key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("slow sensor")
    dialog.get_by_label("Events a second").fill("2.5")
    dialog.get_by_label("At once").fill("10")
    dialog.get_by_role("button", name="Make key").click()
    expect(dialog.locator("code")).to_contain_text("slw_")
    dialog.get_by_role("button", name="Done").click()
    row = page.locator(".sw-key").filter(has_text="slow sensor")
    expect(row).to_contain_text("2.5 events/s, burst 10")
