"""One way in for XML, one way out to the network: no module but those listed has another.

Two parsers of which one is hardened (faults.md, findings 11 and 12) and a second client are how
gateways were broken. The lists name each place and why it may; a place that is gone fails too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "fhir_gateway"
SOURCES = sorted(ROOT.rglob("*.py"))

#: Packages that read XML or HTML, however they are imported.
PARSERS = ("lxml", "xml", "html.parser", "bs4", "html5lib", "defusedxml", "xmltodict", "pyexpat",
           "xmlschema", "untangle", "nh3", "bleach", "openpyxl", "docx", "pandas")  # fmt: skip
MAY_READ_MARKUP = {
    "fhir/xml_parse.py": {"lxml"},  # the one parser
    "fhir/xhtml.py": {"lxml"},  # writes trees; its parsing is xml_parse's
    "fhir/narrative.py": {"nh3"},  # the sanitiser
    "terminology/sheet_xlsx.py": {"openpyxl"},  # a committee's workbook, bounded before; cli only
    "terminology/catalogue_export.py": {"openpyxl"},  # writes workbooks
}
#: What makes a tree of bytes in lxml, under whatever name it was imported.
PARSING = frozenset({
    "parse", "parseid", "fromstring", "fromstringlist", "XML", "HTML", "XMLID", "iterparse",
    "XMLParser", "XMLPullParser", "HTMLParser", "HTMLPullParser", "ETCompatXMLParser", "XSLT",
    "XInclude", "DTD", "RelaxNG", "XMLSchema", "Schematron", "document_fromstring",
    "fragment_fromstring", "fragments_fromstring", "feed", "set_default_parser",
})  # fmt: skip

#: Packages that connect, and calls that do.
CLIENTS = ("socket", "httpx", "http.client", "urllib.request", "urllib3", "requests", "aiohttp",
           "ftplib", "smtplib", "poplib", "imaplib", "telnetlib", "websockets", "paramiko",
           "xmlrpc", "socketserver", "asyncpg", "grpc", "sqlalchemy")  # fmt: skip
CONNECTING = frozenset({
    "open_connection", "create_connection", "create_datagram_endpoint", "getaddrinfo",
    "gethostbyname", "gethostbyname_ex", "sock_connect", "open_unix_connection",
    "create_unix_connection", "urlopen", "urlretrieve", "connect_tcp",
})  # fmt: skip
MAY_CONNECT = {
    "interactions/outbound.py": {"httpx", "socket", "getaddrinfo"},  # the one way out
    "cli/serve.py": {"socket"},  # listens
    "store/link.py": {"socket", "create_unix_connection"},  # to the writer, beside the file
    "store/copying_postgres.py": {"asyncpg"},  # a store's driver, as below
    "transparency/verify_read.py": {"asyncpg"},  # the driver's errors, told as findings
    "interactions/intake_view_open.py": {"sqlalchemy"},  # a hospital's view: an operator's address
    "interactions/intake_view_read.py": {"sqlalchemy"},  # its one SELECT
    "interactions/intake_view.py": {"sqlalchemy"},  # the type of a connection
    "hl7v2/mllp_client.py": {"open_connection"},  # the command `send`: an operator's address
}
#: The driver of the store: the address is the operator's setting, never a caller's.
STORE = "store/postgres"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere, also in functions and by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)
        elif isinstance(node, ast.Call) and _callee(node) in ("__import__", "import_module"):
            yield from (one.value for one in node.args if isinstance(one, ast.Constant))


def called(tree: ast.AST) -> Iterator[str]:
    """The last name of everything that is called or handed over, such as `etree.fromstring`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id


def _callee(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def found(tree: ast.AST, packages: tuple[str, ...]) -> set[str]:
    return {
        package
        for module in imported(tree)
        for package in packages
        if module == package or module.startswith(f"{package}.")
    }


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in SOURCES:
        yield name_of(path), ast.parse(path.read_text(encoding="utf-8"))


def test_004_one_module_reads_markup() -> None:
    reading = {name: used for name, tree in trees() if (used := found(tree, PARSERS))}
    assert reading == MAY_READ_MARKUP


def test_004_one_function_parses_and_one_makes_a_parser() -> None:
    places = []
    for name in (name for name, packages in MAY_READ_MARKUP.items() if "lxml" in packages):
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                places += [
                    (name, function.name, used) for used in called(function) if used in PARSING
                ]
    assert places == [
        ("fhir/xml_parse.py", "parse_xml", "fromstring"),
        ("fhir/xml_parse.py", "_parser", "XMLParser"),
    ]


def test_117_one_module_leads_out() -> None:
    connecting = {}
    for name, tree in trees():
        used = found(tree, CLIENTS) | (CONNECTING & set(called(tree)))
        if name.startswith(STORE):
            used -= {"asyncpg"}
        if used:
            connecting[name] = used
    assert connecting == MAY_CONNECT


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("import xml.etree.ElementTree as E", PARSERS),
        ("def f():\n    from lxml import html", PARSERS),
        ("from importlib import import_module\nimport_module('lxml.etree')", PARSERS),
        ("__import__('xml.sax')", PARSERS),
        ("from urllib.request import urlopen", CLIENTS),
        ("import http.client", CLIENTS),
        ("if True:\n    import requests", CLIENTS),
    ],
)
def test_the_lint_sees_what_it_is_for(source: str, rule: tuple[str, ...]) -> None:
    assert found(ast.parse(source), rule)


def test_the_lint_lets_pass_what_reads_and_connects_nothing() -> None:
    tree = ast.parse("import html\nfrom urllib.parse import urlencode\nfrom http import HTTPStatus")
    assert not found(tree, PARSERS) | found(tree, CLIENTS)
