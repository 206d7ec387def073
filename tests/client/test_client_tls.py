"""Certificates are always verified."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.client.wire import Steps, talking
from uploaderd.errors import TargetBlockedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def service(certificate: Path) -> AsyncIterator[str]:
    """A service that takes parts over TLS, or refuses the key without reading."""

    async def take(request: web.Request) -> web.Response:
        if request.match_info["id"] == "refuse":
            assert request.transport is not None
            return web.json_response({"error": {"message": "no"}}, status=401)
        size = 0
        async for some in request.content.iter_any():
            size += len(some)
        return web.json_response({"id": f"part_{size}"})

    app = web.Application(client_max_size=0)
    app.router.add_post("/v1/uploads/{id}/parts", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, certificate.with_name("key.pem"))
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    yield f"https://127.0.0.1:{port}/v1"
    await runner.cleanup()


async def test_a_private_authority_is_trusted_only_where_it_is_configured(
    service: str, certificate: Path
) -> None:
    """With ca_file parts arrive; without it the target waits for a person and nothing is sent."""
    async with talking(service, ca_file=certificate) as client:
        stored = await client.add_part("u", Steps([bytes(1 << 18)] * 20), request_id="r")
        assert int(stored.removeprefix("part_")) > 20 << 18
    async with talking(service) as client:
        with pytest.raises(TargetBlockedError) as caught:
            await client.add_part("u", Steps([b"x"]), request_id="r")
    assert (caught.value.code, caught.value.acted) == ("certificate", False)


async def test_a_certificate_for_another_name_is_refused(service: str, certificate: Path) -> None:
    """Being signed by the right authority is not enough."""
    elsewhere = service.replace("127.0.0.1", "localhost")
    async with talking(elsewhere, ca_file=certificate) as client:
        with pytest.raises(TargetBlockedError) as caught:
            await client.add_part("u", Steps([b"x"]), request_id="r")
    assert caught.value.code == "certificate"


async def test_an_early_answer_is_heard_through_tls(service: str, certificate: Path) -> None:
    """A 401 in mid-body keeps its status under encryption too."""
    async with talking(service, ca_file=certificate) as client:
        for _ in range(10):
            with pytest.raises(TargetBlockedError) as caught:
                await client.add_part("refuse", Steps([bytes(1 << 18)] * 64), request_id="r")
            assert caught.value.status == 401
