"""The headers of every answer of every door, asked of every route (faults.md 22, 45, 61)."""

from __future__ import annotations

import pytest
from rest_samples import patient

from fhir_gateway.cds_hooks.services import BY_ID
from fhir_gateway.interactions.table import INTERACTIONS
from fhir_gateway.rest.headers import ALWAYS, by_tls
from fhir_gateway.rest.operations import OPERATIONS
from fhir_gateway.settings import Settings

FILLED = {"{type}": "Patient", "{id}": "nobody", "{version}": "1", "{member}": "Observation",
          "{job}": "none", "{file}": "none.ndjson"}  # fmt: skip


def _filled(path: str) -> str:
    return "/".join(FILLED.get(one, one) for one in path.split("/"))


ROUTES = sorted(
    {(row.method, f"/fhir/{_filled(row.path)}".rstrip("/"))
     for row in INTERACTIONS if "$" not in row.path}
    | {("POST", f"/fhir/{name}") for name in OPERATIONS}
    | {("GET", f"/fhir/Patient/nobody/{name}") for name in OPERATIONS}
    | {("POST", f"/cds-services/{id}{more}") for id in BY_ID for more in ("", "/feedback")}
    | {(method, path)
       for method in ("GET", "POST", "OPTIONS", "DELETE")
       for path in ("/", "/fhir", "/fhir/nonsense/1/2/3/4", "/cds-services", "/cds-services/none",
                    "/hl7v2", "/cda", "/cda/soap", "/healthz", "/readyz", "/metrics", "/none",
                    "/docs", "/openapi.json", "/.well-known/none", "/favicon.ico")}
)  # fmt: skip


def assert_guarded(headers) -> None:
    for name, value in ALWAYS:
        given = headers.get_list(name.decode()) if name != b"cache-control" else [value.decode()]
        assert given == [value.decode()], name
    assert headers["cache-control"] == "no-store"
    assert "x-request-id" in headers
    assert "server" not in headers
    assert "x-powered-by" not in headers
    assert "set-cookie" not in headers


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize("open_access", [True, False])
def test_061_every_answer_of_every_route_is_guarded(start, open_access) -> None:
    server = start(open_access=open_access)
    assert len(ROUTES) > 100
    asked = set()
    for method, path in ROUTES:
        for accept in ("application/fhir+json", "text/html"):
            answer = server.request(method, path, headers={"accept": accept}, content=b"{}")
            assert_guarded(answer.headers)
            asked.add(answer.status_code)
            assert "text/html" not in answer.headers.get("content-type", "")
    assert {200, 404, 405} <= asked


@pytest.mark.drivers("sqlite")
def test_061_an_answer_differs_by_who_asks_and_in_which_format(client) -> None:
    place = client.post("/fhir/Patient", patient()).headers["location"]
    answer = client.get(place[place.index("/fhir/") :])
    varies = {one.strip() for one in answer.headers["vary"].split(",")}
    assert {"accept", "authorization"} <= varies
    assert answer.headers["etag"].startswith('W/"')
    again = client.get(place[place.index("/fhir/") :], headers={"if-none-match": 'W/"1"'})
    assert again.status_code == 304
    assert_guarded(again.headers)


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize("media", ["text/html", "image/svg+xml", "application/pdf", "text/xml"])
def test_022_what_somebody_stored_is_never_shown_in_place(client, media) -> None:
    body = {
        "resourceType": "Binary",
        "contentType": media,
        "data": "PHNjcmlwdD5wd24oKTwvc2NyaXB0Pg==",
    }
    path = client.post("/fhir/Binary", body).headers["location"]
    path = path[path.index("/fhir/") : path.index("/_history")]
    for accept in (media, "text/html,*/*", "*/*", "application/fhir+xml"):
        answer = client.get(path, headers={"accept": accept})
        assert_guarded(answer.headers)
        if answer.status_code == 406:
            continue
        assert answer.headers["content-disposition"] == "attachment"
        assert answer.headers["content-type"].split(";")[0] in (
            "application/fhir+json", "application/fhir+xml", "text/xml",
        )  # fmt: skip
        assert b"<script>" not in answer.content


@pytest.mark.drivers("sqlite")
def test_045_no_cookie_and_no_framing_and_exact_origins(start) -> None:
    server = start(open_access=True, allowed_origins="https://app.example")
    for origin in (
        "https://app.example.evil.example",
        "null",
        "http://app.example",
        "https://other",
    ):
        answer = server.get("/fhir/Patient", headers={"origin": origin})
        assert "access-control-allow-origin" not in answer.headers
    answer = server.get("/fhir/Patient", headers={"origin": "https://app.example"})
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.drivers("sqlite")
def test_tls_is_asked_for_again_where_it_was_used(start) -> None:
    secured = start(open_access=True, base_url="https://gw.example/fhir")
    assert "max-age=" in secured.get("/healthz").headers["strict-transport-security"]


@pytest.mark.parametrize(
    ("header", "proxies", "expected"),
    [
        ([], "", False),
        ([(b"x-forwarded-proto", b"https")], "", False),
        ([(b"x-forwarded-proto", b"https")], "10.0.0.0/8", True),
        ([(b"x-forwarded-proto", b"http")], "10.0.0.0/8", False),
        ([(b"forwarded", b"for=1.2.3.4;proto=https")], "10.0.0.0/8", True),
        ([(b"forwarded", b'host="a b";proto=https')], "10.0.0.0/8", False),
        ([(b"x-forwarded-proto", b"https")], "192.0.2.0/24", False),
    ],
)
def test_tls_is_believed_of_a_trusted_proxy_only(header, proxies, expected) -> None:
    scope = {"scheme": "http", "headers": header, "client": ("10.0.0.9", 1)}
    assert by_tls(scope, Settings(trusted_proxies=proxies)) is expected
