"""Calling other servers: pinned addresses, no way around the list, limits in size and time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fhir_gateway.errors import Forbidden, GatewayError, Invalid, Unavailable
from fhir_gateway.interactions.outbound import Fetched, Outbound, trusted_certificates
from fhir_gateway.security.outbound import Policy, read_policy

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-what: A\r\n\r\nok"


class Server:
    """A server on this machine that answers every request with the same bytes."""

    def __init__(self, answer: bytes, hold: float = 0) -> None:
        self.answer, self.hold, self.port = answer, hold, 0
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                await asyncio.sleep(self.hold)
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    answer: bytes = OK, *, hold: float = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    server = Server(answer, hold)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await asyncio.sleep(0)


def resolving(*answers: Sequence[str]) -> Any:
    """A resolver that gives these answers in turn, the last one for ever, and counts."""
    given = list(answers)

    async def resolve(host: str, port: int) -> Sequence[str]:
        resolve.asked.append((host, port))  # type: ignore[attr-defined]
        return given.pop(0) if len(given) > 1 else given[0]

    resolve.asked = []  # type: ignore[attr-defined]
    return resolve


def local(port: int, host: str = "127.0.0.1", scheme: str = "http") -> Policy:
    return read_policy("", "127.0.0.0/8").allowing([f"{scheme}://{host}:{port}"])


async def fetched(url: str, policy: Policy, resolver: Any = None, **options: Any) -> Fetched:
    ca = options.pop("ca", "")
    async with Outbound(policy, ca=ca, resolver=resolver) as outbound:
        limits: dict[str, Any] = {"most_bytes": 100, "seconds": 5.0, **options}
        return await outbound.fetch(url, **limits)


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def awaited() -> Any:
        return await work()

    return asyncio.run(awaited())


def rule_of(work: Callable[[], Awaitable[Any]], kind: type[GatewayError]) -> str | None:
    with pytest.raises(kind) as caught:
        run(work)
    return caught.value.issues[0].rule


def test_a_listed_server_is_asked_and_answers_whole() -> None:
    async def work() -> None:
        async with serving() as server:
            url = f"http://127.0.0.1:{server.port}/fhir/Patient/1?x=y"
            answer = await fetched(url, local(server.port), headers={"authorization": "Bearer t"})
            assert (answer.status, answer.headers["x-what"], answer.body) == (200, "A", b"ok")
            (request,) = server.requests
            assert request.startswith(b"GET /fhir/Patient/1?x=y HTTP/1.1\r\n")
            assert b"authorization: bearer t" in request.lower()
            assert f"host: 127.0.0.1:{server.port}\r\n".encode() in request.lower()
            assert b"cookie" not in request.lower()

    run(work)


def test_a_name_that_changes_its_address_is_still_called_where_it_was_judged() -> None:
    """DNS rebinding: the first answer is judged and pinned, the second is never asked for."""

    async def work() -> None:
        async with serving() as server:
            policy = local(server.port, "localhost")
            resolver = resolving(["127.0.0.1"], ["169.254.169.254"])
            async with Outbound(policy, resolver=resolver) as outbound:
                for _ in range(3):
                    await outbound.fetch(
                        f"http://localhost:{server.port}/", most_bytes=9, seconds=5
                    )
            assert len(resolver.asked) == 1
            assert len(server.requests) == 3
            assert f"host: localhost:{server.port}".encode() in server.requests[0].lower()

    run(work)


def test_requests_at_once_resolve_the_name_once() -> None:
    async def work() -> None:
        async with serving() as server:
            resolver = resolving(["127.0.0.1"])
            policy = local(server.port, "localhost")
            async with Outbound(policy, resolver=resolver) as outbound:
                url = f"http://localhost:{server.port}/"
                calls = [outbound.fetch(url, most_bytes=9, seconds=5) for _ in range(4)]
                assert [one.body for one in await asyncio.gather(*calls)] == [b"ok"] * 4
            assert len(resolver.asked) == 1

    run(work)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "10.0.0.1", "::ffff:169.254.169.254", "fd00:ec2::254"]
)
def test_a_listed_name_that_leads_inside_is_not_called(address: str) -> None:
    policy = Policy().allowing(["https://his.example"])
    for answer in ([address], ["203.0.114.7", address]):
        resolver = resolving(answer)
        assert (
            rule_of(lambda r=resolver: fetched("https://his.example/", policy, r), Forbidden)
            == "outbound-address"
        )


def test_what_is_not_listed_is_not_even_resolved() -> None:
    resolver = resolving(["203.0.114.7"])
    policy = Policy().allowing(["https://his.example"])
    for url, kind in (
        ("https://other.example/", Forbidden),
        ("http://169.254.169.254/latest/meta-data", Forbidden),
        ("https://his.example@169.254.169.254/", Invalid),
        ("https://2852039166/", Invalid),
    ):
        rule_of(lambda u=url: fetched(u, policy, resolver), kind)
    assert resolver.asked == []


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect"])
def test_a_redirect_is_never_followed(status: str) -> None:
    to = "http://169.254.169.254/latest/meta-data/"
    answer = f"HTTP/1.1 {status}\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"

    async def work() -> None:
        async with serving(answer.encode()) as server:
            await fetched(f"http://127.0.0.1:{server.port}/", local(server.port))

    assert rule_of(work, Unavailable) == "outbound-redirect"


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n" + b"x" * 101, "outbound-size"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"40\r\n" + b"x" * 64 + b"\r\n40\r\n" + b"x" * 64 + b"\r\n0\r\n\r\n",
            "outbound-size",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nok",
            "outbound-encoding",
        ),
        (b"no HTTP at all\r\n\r\n", "outbound-unreachable"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000 + b"\r\n\r\n", "outbound-unreachable"),
    ],
)  # fmt: skip
def test_an_answer_beyond_the_limits_is_none(answer: bytes, rule: str) -> None:
    async def work() -> None:
        async with serving(answer) as server:
            await fetched(f"http://127.0.0.1:{server.port}/", local(server.port))

    assert rule_of(work, Unavailable) == rule


def test_a_server_that_takes_its_time_is_left() -> None:
    async def work() -> None:
        async with serving(hold=60) as server:
            url = f"http://127.0.0.1:{server.port}/"
            await fetched(url, local(server.port), seconds=0.05)

    assert rule_of(work, Unavailable) == "outbound-time"


def test_a_name_that_nobody_knows_is_no_fault_of_ours() -> None:
    async def nobody(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    policy = Policy().allowing(["https://his.example"])
    work = lambda: fetched("https://his.example/", policy, nobody)  # noqa: E731 - one line
    assert rule_of(work, Unavailable) == "outbound-unreachable"


# -- TLS --------------------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> tuple[str, ssl.SSLContext]:
    """A certificate for a name that signs itself: its file, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    if name.replace(".", "").isdigit():
        names = [x509.IPAddress(ip_address(name))]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{name}.pem", folder / f"{name}.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return str(public), context


def test_the_certificate_must_be_the_names_own(tmp_path: Path) -> None:
    """The connection goes to an address, the name that is checked is the one in the URL."""
    file, context = certificate(tmp_path, "his.example")

    async def work(host: str, ca: str) -> Fetched:
        async with serving(tls=context) as server:
            policy = local(server.port, host, "https")
            url = f"https://{host}:{server.port}/"
            return await fetched(url, policy, resolving(["127.0.0.1"]), ca=ca)

    assert run(lambda: work("his.example", file)).body == b"ok"
    for host, ca in (("other.example", file), ("his.example", ""), ("127.0.0.1", file)):
        assert rule_of(lambda h=host, c=ca: work(h, c), Unavailable) == "outbound-unreachable"


def test_a_file_without_certificates_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    for name in ("x.pem", "missing.pem"):
        with pytest.raises(Invalid):
            trusted_certificates(str(tmp_path / name))
