"""Bodies at every door of the REST interface (faults.md 6 to 9, 12, 13): refused whole, or stored
exactly as they came."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_gateway.security.actor import SYSTEM_ACCESS

FHIR = "application/fhir+json"
PATCH = "application/json-patch+json"

#: Where a body is read, and a sound body there with a place for something odd.
DOORS = {
    "create": ("POST", "Patient", FHIR, '{"resourceType":"Patient","extension":@}'),
    "update": ("PUT", "Patient/p", FHIR, '{"resourceType":"Patient","id":"p","extension":@}'),
    "conditional update": ("PUT", "Patient?identifier=a|b", FHIR,
                           '{"resourceType":"Patient","extension":@}'),
    "transaction": ("POST", "", FHIR, '{"resourceType":"Bundle","type":"transaction","entry":[{'
                    '"resource":{"resourceType":"Patient","extension":@},'
                    '"request":{"method":"POST","url":"Patient"}}]}'),
    "the Bundle itself": ("POST", "", FHIR, '{"resourceType":"Bundle","type":"transaction",'
                          '"link":[{"relation":"x","url":"http://a.example","extension":@}],'
                          '"entry":[{"resource":{"resourceType":"Patient"},'
                          '"request":{"method":"POST","url":"Patient"}}]}'),
    "operation": ("POST", "Patient/$validate", FHIR, '{"resourceType":"Parameters","parameter":['
                  '{"name":"mode","valueCode":"create","extension":@}]}'),
    "json patch": ("PATCH", "Patient/p", PATCH, '[{"op":"add","path":"/extension","value":@}]'),
    "fhirpath patch": ("PATCH", "Patient/p", FHIR, '{"resourceType":"Parameters","parameter":['
                       '{"name":"operation","part":[{"name":"type","valueCode":"add"},'
                       '{"name":"path","valueString":"Patient"},'
                       '{"name":"name","valueString":"language"},'
                       '{"name":"value","valueCode":"zh","extension":@}]}]}'),
}  # fmt: skip

ODD = {
    "nested a hundred thousand deep": "[" * 100_000 + "]" * 100_000,
    "objects nested deep": '{"a":' * 5_000 + "1" + "}" * 5_000,
    "an end that never comes": "[" * 1_000,
    "a key that stands twice": '[{"url":"http://a.example","valueCode":"a","valueCode":"b"}]',
    "a key that stands twice, escaped": '[{"url":"http://a.example","valueCode":"a","valueC\\u006fde":"b"}]',
    "NaN": '[{"url":"http://a.example","valueDecimal":NaN}]',
    "Infinity": '[{"url":"http://a.example","valueDecimal":-Infinity}]',
    "1e999": '[{"url":"http://a.example","valueDecimal":1e999}]',
    "a number of 5,000 digits": '[{"url":"http://a.example","valueInteger":' + "7" * 5_000 + "}]",
    "a leading zero": '[{"url":"http://a.example","valueDecimal":01}]',
    "hexadecimal": '[{"url":"http://a.example","valueInteger":0x10}]',
    "a lone surrogate": '[{"url":"http://a.example","valueString":"\\ud800"}]',
    "a NUL": '[{"url":"http://a.example","valueString":"a\\u0000b"}]',
    "a comment": '[{"url":"http://a.example"/* x */,"valueString":"a"}]',
    "a comma too many": '[{"url":"http://a.example","valueString":"a"},]',
    "single quotes": "[{'url':'http://a.example'}]",
}  # fmt: skip


async def _changes(gateway) -> int:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        counts = await reader.counts()
    return sum(count for type, count in counts.items() if type != "AuditEvent")


def changes(server) -> int:
    """How many resources there are beside the records of audit."""
    return server.run(_changes(server.gateway))


@pytest.fixture(scope="module")
def patient(client):
    stored = client.put("/fhir/Patient/p", {"resourceType": "Patient", "id": "p"})
    assert stored.status_code == 201
    return client


def send(server, door: str, odd: str):
    method, path, media, body = DOORS[door]
    text = body.replace("@", odd).encode("utf-8", "surrogatepass")
    return server.request(method, f"/fhir/{path}", content=text, headers={"content-type": media})


@pytest.mark.drivers("sqlite")  # no store is asked
@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_clean_json_is_refused_at_every_door(patient, door):
    before = changes(patient)
    for odd, text in ODD.items():
        answer = send(patient, door, text)
        assert answer.status_code in (400, 422), (odd, answer.text[:300])
        assert answer.json()["resourceType"] == "OperationOutcome"
        assert all(one["severity"] == "error" for one in answer.json()["issue"])
    assert changes(patient) == before
    assert patient.get("/fhir/Patient/p").json()["meta"]["versionId"] == "1"


def test_doors_take_what_is_clean(patient):
    """Else the test above says nothing."""
    clean = '[{"url":"http://a.example","valueDecimal":1.50}]'
    for door in DOORS:
        answer = send(patient, door, clean)
        if door == "operation":  # nothing to judge was sent
            assert answer.json()["issue"][0]["expression"] == ["resource"]
            continue
        assert answer.is_success, (door, answer.text)
    stored = patient.get("/fhir/Patient/p")
    assert '"valueDecimal":1.50' in stored.text
    assert patient.delete("/fhir/Patient/p").status_code == 204
    assert patient.put("/fhir/Patient/p", {"resourceType": "Patient", "id": "p"}).is_success


BYTES = {
    "GB18030 that calls itself UTF-8": "王小明".encode("gb18030"),
    "overlong": b"\xc0\xaf",
    "a surrogate in UTF-8": b"\xed\xa0\x80",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "half a character": "王".encode()[:2],
}


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize("door", DOORS)
def test_what_is_not_utf8_is_refused_at_every_door(client, door):
    method, path, media, body = DOORS[door]
    for name, raw in BYTES.items():
        odd = b'[{"url":"http://a.example","valueString":"' + raw + b'"}]'
        answer = client.request(
            method, f"/fhir/{path}", content=body.encode().replace(b"@", odd),
            headers={"content-type": media},
        )  # fmt: skip
        assert answer.status_code == 400, (name, answer.text)


#: Texts that FHIR allows, however odd: every character but controls, no blank ends.
TEXTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40
).filter(lambda text: text.strip() == text and text.split() != [])  # fmt: skip
WRITTEN = TEXTS | st.sampled_from(
    ["\u202eabc\u202c", "王\u200b伟", "\ufeffx", "é", "e\u0301", "ﬁ", "Ａ", "👩‍⚕️", "𠮷", "a\u2028b"]
)


@settings(
    max_examples=examples(25), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(texts=st.lists(WRITTEN, min_size=1, max_size=4))
def test_odd_texts_come_back_exactly(client, texts):
    """Bidirectional and invisible signs too: what is shown is for who shows it to isolate."""
    names = [{"text": text} for text in texts]
    answer = client.post("/fhir/Patient", {"resourceType": "Patient", "name": names})
    assert answer.status_code == 201, answer.text
    assert client.get(f"/fhir/Patient/{answer.json()['id']}").json()["name"] == names


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize(
    "id", ["王", "ａ", "a\u200b", "a\u202e", "a b", "a/b", "", "a" * 65, "a_b", "é", "a\n"]
)
def test_ids_are_plain_ascii(client, id):
    answer = client.put("/fhir/Patient/x", {"resourceType": "Patient", "id": id})
    assert answer.status_code in (400, 422)
    batch = {"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": {"resourceType": "Patient", "id": id},
         "request": {"method": "PUT", "url": f"Patient/{id}"}}]}  # fmt: skip
    assert client.post("/fhir", batch).status_code in (400, 422)


def test_the_limits_are_stated(client):
    statement = client.get("/fhir/metadata").json()
    said = json.dumps(statement)
    limits = client.settings
    for limit in (limits.body_limit, limits.bundle_limit, limits.page_limit):
        assert str(limit) in said


#: Fullurls, ids and references of entries, few of them so that they meet.
URNS = [f"urn:uuid:{UUID(int=number)}" for number in range(3)]
names = st.sampled_from([*URNS, "Patient/a", "Patient/b", "Patient/nobody", "#x",
                         "Patient?identifier=http://a.example|1"])  # fmt: skip
entries = st.fixed_dictionaries(
    {"resource": st.builds(
        lambda linked, key: {
            "resourceType": "Patient",
            "link": [{"other": {"reference": one}, "type": "seealso"} for one in linked] or None,
            "identifier": [{"system": "http://a.example", "value": key}] if key else None,
        },
        st.lists(names, max_size=2), st.sampled_from(["", "1", "2"]),
    ),
     "request": st.sampled_from([
         {"method": "POST", "url": "Patient"}, {"method": "PUT", "url": "Patient/a"},
         {"method": "PUT", "url": "Patient/b"}, {"method": "DELETE", "url": "Patient/a"},
         {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=http://a.example|1"},
         {"method": "PUT", "url": "Patient?identifier=http://a.example|2"},
         {"method": "PUT", "url": "Patient/a", "ifMatch": 'W/"1"'},
         {"method": "DELETE", "url": "Patient?identifier=http://a.example|2"},
         {"method": "GET", "url": "Patient/a"},
     ])},
    optional={"fullUrl": st.sampled_from(URNS)},
)  # fmt: skip


def cleaned(entry: dict) -> dict:
    """The entry without empty members, with the id that its url names."""
    request = entry["request"]
    if request["method"] in ("DELETE", "GET"):
        return {"request": request}
    resource = {name: value for name, value in entry["resource"].items() if value}
    if request["method"] == "PUT" and "?" not in request["url"]:
        resource["id"] = request["url"].partition("/")[2]
    return {**entry, "resource": resource}


@settings(
    max_examples=examples(40), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(chosen=st.lists(entries, min_size=1, max_size=4))
def test_13_a_transaction_is_whole_or_nothing(client, chosen):
    """Same names twice, circles, several entries of one condition: refused whole or done whole."""
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [*map(cleaned, chosen)]}
    before = client.get("/fhir/Patient/_history?_count=0").text, newest(client)
    answer = client.post("/fhir", bundle)
    if answer.status_code == 200:
        responses = answer.json()["entry"]
        assert len(responses) == len(chosen)
        for one, response in zip(bundle["entry"], responses, strict=True):
            is_read = one["request"]["method"] == "GET"  # what was stored is told all the same
            assert is_read or response["response"]["status"][:1] == "2", (one, response)
        return
    assert answer.status_code in (400, 404, 409, 410, 412, 422), answer.text
    assert all(issue["diagnostics"] for issue in answer.json()["issue"])
    assert (client.get("/fhir/Patient/_history?_count=0").text, newest(client)) == before


def newest(client) -> list[tuple[str, str]]:
    """The newest versions of Patients."""
    body = client.get("/fhir/Patient/_history?_count=8").json()
    return [(one["fullUrl"], one["response"]["etag"]) for one in body.get("entry", ())]
