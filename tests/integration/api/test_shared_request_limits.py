"""One limit of requests over two web processes, counted in the database."""

import time
from dataclasses import replace
from typing import Any

from api.app import create_app
from api.services import ApiServices
from tests.integration.api.conftest import Client


def told(services: ApiServices) -> None:
    """Wait until the process has said what it has to say."""
    services.extra["rate_limits"]._shared._thread.submit(lambda: None).result(timeout=60)


def test_a_key_has_one_limit_at_two_processes(world: Any) -> None:
    headers = {"Authorization": f"Bearer {world.key('read')}"}
    settings = replace(world.services.settings, key_requests_per_minute=32)
    processes = [
        ApiServices(settings=settings, database=world.services.database, key=world.services.key)
        for _ in range(2)
    ]
    clients = [Client(create_app(services), world.portal, headers) for services in processes]
    passed, began = 0, time.monotonic()
    try:
        for number in range(2 * 32 + 4):
            answer = clients[number % 2].get("/v1/pipelines")
            passed += answer.status_code == 200
            told(processes[number % 2])
        waited_s = time.monotonic() - began
        # Each alone would have let 32 through.
        assert 32 <= passed <= 32 + 2 * 4 + 32 / 60 * waited_s + 1
        rows = world.execute("SELECT thing FROM app.rate_buckets").scalars().all()
        assert len(rows) == 1 and rows[0].startswith("requests:")
        for hours, kept in ((23, 1), (25, 0)):
            world.execute("SELECT app.sweep_expired(now() + make_interval(hours => :hours))", hours=hours)
            assert world.execute("SELECT count(*) FROM app.rate_buckets").scalar_one() == kept
    finally:
        for services in processes:
            services.extra["rate_limits"]._shared.close()
