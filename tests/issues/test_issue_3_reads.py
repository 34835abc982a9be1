"""A conditional read never takes one version for another of the same second."""

from __future__ import annotations

from running import Running

from fhir_gateway.rest.negotiation import is_current


def test_two_versions_of_one_second_are_told_apart(client: Running) -> None:
    path, patient = "/fhir/Patient/quick", {"resourceType": "Patient", "id": "quick"}
    first = client.put(path, patient)
    assert first.headers["etag"] == 'W/"1"'
    for _ in range(50):  # at least two of these fall into one second
        known = client.get(path)
        client.put(path, patient)
        newer = client.get(path, headers={"if-modified-since": known.headers["last-modified"]})
        assert newer.status_code == 200
        assert newer.headers["etag"] != known.headers["etag"]
        if newer.headers["last-modified"] == known.headers["last-modified"]:
            return
    raise AssertionError("no two updates in one second")


def test_the_first_version_and_an_older_one_are_known_by_their_time() -> None:
    at = {"if-modified-since": "Thu, 01 Jan 1970 00:00:10 GMT"}
    assert is_current(at, 1, 10_999_999)
    assert not is_current(at, 2, 10_000_000)
    assert is_current(at, 2, 9_999_999)
    assert not is_current(at, 1, 11_000_000)
