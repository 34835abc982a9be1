"""Where links lead and whose pages may read answers: Host, trusted proxies, CORS."""

from __future__ import annotations

import pytest
from rest_samples import patient

from fhir_gateway.errors import Invalid
from fhir_gateway.security.origin import base_of
from fhir_gateway.settings import Settings

PROXY, STRANGER = ("10.1.2.3", 4711), ("192.0.2.9", 4711)


def base(headers, *, client=PROXY, scheme="http", **settings):
    settings = Settings(**{"trusted_proxies": "10.0.0.0/8, ::1", **settings})
    scope = {"scheme": scheme, "client": client}
    return base_of(scope, {"host": "inner:8080", **headers}, settings)


INNER = "http://inner:8080/fhir"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, INNER),
        ({"x-forwarded-host": "gw.example"}, "http://gw.example/fhir"),
        (
            {"x-forwarded-host": "gw.example", "x-forwarded-proto": "https"},
            "https://gw.example/fhir",
        ),
        ({"x-forwarded-proto": "HTTPS"}, "https://inner:8080/fhir"),
        (
            {"x-forwarded-host": "evil.example, gw.example", "x-forwarded-proto": "http, https"},
            "https://gw.example/fhir",
        ),
        (
            {"x-forwarded-host": "gw.example", "x-forwarded-port": "8443",
             "x-forwarded-proto": "https"},
            "https://gw.example:8443/fhir",
        ),
        (
            {"x-forwarded-host": "gw.example", "x-forwarded-port": "443",
             "x-forwarded-proto": "https"},
            "https://gw.example/fhir",
        ),
        ({"x-forwarded-host": "gw.example:9", "x-forwarded-port": "8443"},
         "http://gw.example:9/fhir"),
        ({"x-forwarded-proto": "javascript"}, INNER),
        ({"forwarded": "for=192.0.2.1;proto=https;host=gw.example"}, "https://gw.example/fhir"),
        ({"forwarded": 'For="[2001:db8::1]";Proto=https;Host="gw.example:8443"'},
         "https://gw.example:8443/fhir"),
        ({"forwarded": "host=evil.example, for=x;host=gw.example;proto=http"},
         "http://gw.example/fhir"),
        ({"forwarded": "for=192.0.2.1", "x-forwarded-host": "evil.example"}, INNER),
        ({"forwarded": ""}, INNER),
    ],
)  # fmt: skip
def test_a_trusted_proxy_says_where_the_client_called(headers, expected):
    assert base(headers) == expected


@pytest.mark.parametrize("client", [STRANGER, None, ("", 0), ("unix:", 0)])
@pytest.mark.parametrize(
    "headers", [{"x-forwarded-host": "evil.example"}, {"forwarded": "host=evil.example"}]
)
def test_what_a_stranger_says_of_itself_is_not_read(headers, client):
    assert base(headers, client=client) == INNER


def test_no_proxy_is_trusted_unless_it_is_named():
    headers = {"x-forwarded-host": "evil.example"}
    assert base(headers, client=("127.0.0.1", 1), trusted_proxies="") == INNER
    assert base(headers, client=("::1", 1)) == "http://evil.example/fhir"


def test_a_configured_base_goes_before_all_else():
    configured = "https://gw.example/r4/"
    assert base({"x-forwarded-host": "a.example"}, base_url=configured) == configured[:-1]


@pytest.mark.parametrize("host", ["a b", "x/../y", '"', "[::1", "gw.example:99999999"])
def test_a_proxy_that_names_no_host_is_refused(host):
    with pytest.raises(Invalid):
        base({"x-forwarded-host": host})


@pytest.mark.parametrize(
    "settings",
    [{"trusted_proxies": "proxy.example"}, {"trusted_proxies": "10.0.0.1/8"},
     {"allowed_origins": "app.example"}, {"allowed_origins": "https://app.example/path"}],
)  # fmt: skip
def test_settings_that_name_no_networks_or_origins_stop_the_start(start, settings):
    with pytest.raises(Invalid):
        start(**settings)


def test_links_of_an_answer_lead_through_the_proxy(start):
    server = start(open_access=True, trusted_proxies="127.0.0.0/8")
    headers = {"x-forwarded-host": "gw.example", "x-forwarded-proto": "https"}
    created = server.post("/fhir/Patient", patient(), headers=headers)
    assert created.headers["location"].startswith("https://gw.example/fhir/Patient/")
    server.post("/fhir/Patient", patient())
    answer = server.get("/fhir/Practitioner?_count=1", headers=headers)
    assert answer.json()["link"][0]["url"] == "https://gw.example/fhir/Practitioner?_count=1"


# -- pages of other origins --------------------------------------------------------------------

PAGE = "https://app.example"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    from running import Running

    one = Running(
        tmp_path_factory.mktemp("cors") / "gateway.sqlite",
        allowed_origins=f"{PAGE}, http://localhost:3000",
    )
    yield one
    one.close()


def cors(answer):
    """What an answer says to pages; that it varies by format and caller is said to everybody."""
    told = {
        name: value.removeprefix("accept, authorization, ")
        for name, value in answer.headers.items()
        if name.startswith("access-control-") or name == "vary"
    }
    return {name: value for name, value in told.items() if value != "accept, authorization"}


def test_a_page_of_an_allowed_origin_may_ask_and_read(shared):
    asked = shared.request(
        "OPTIONS",
        "/fhir/Patient/1",
        headers={"origin": PAGE, "access-control-request-method": "PUT"},
    )
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert "PUT" in asked.headers["access-control-allow-methods"].split(", ")
    assert "authorization" in asked.headers["access-control-allow-headers"].split(", ")
    refused = shared.get("/fhir/Patient/1", headers={"origin": PAGE})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == PAGE
    assert "etag" in refused.headers["access-control-expose-headers"]
    assert refused.headers["vary"] == "accept, authorization, origin"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.evil"])
def test_a_page_of_another_origin_may_not(shared, origin):
    for method in ("OPTIONS", "GET"):
        answer = shared.request(method, "/fhir/Patient/1", headers={"origin": origin})
        assert cors(answer) == {"vary": "origin"}


def test_any_page_may_read_the_capability_statement(shared):
    answer = shared.get("/fhir/metadata", headers={"origin": "https://any.example"})
    assert answer.headers["access-control-allow-origin"] == "*"


def test_no_page_may_by_default(client):
    answer = client.get("/fhir/Patient?_count=0", headers={"origin": PAGE})
    assert (answer.status_code, cors(answer)) == (200, {"vary": "origin"})


def test_requests_that_are_no_pages_hear_nothing_of_it(shared):
    assert cors(shared.get("/fhir/metadata")) == {}


def test_options_tell_the_methods_of_an_address_to_anybody(shared):
    answer = shared.request("OPTIONS", "/fhir/Patient/1")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"
    assert shared.request("OPTIONS", "/fhir/a/b/c/d/e/f").status_code == 401
