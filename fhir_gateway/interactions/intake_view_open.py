"""A hospital's database, opened to be read and for nothing else (SQLAlchemy).

What each make of database needs stands in a table: the driver's package, its time-outs, and what
makes a session read only where the database can. The address is a secret: no error and no log
tells its password, and no error tells what stands in a row.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from fhir_gateway.errors import GatewayError, Invalid, Unavailable
from fhir_gateway.mapping.tabular_view import View


class _Make(NamedTuple):
    """What a make of database needs. `module` is imported by the driver, `package` installs it."""

    module: str
    package: str
    arguments: Callable[[View], dict[str, Any]] = lambda _: {}
    sessions: Callable[[View], tuple[str, ...]] = lambda _: ()


def _postgres(view: View) -> tuple[str, ...]:
    return ("SET default_transaction_read_only = on",
            f"SET statement_timeout = {view.query_seconds * 1_000}",
            "SET idle_in_transaction_session_timeout = 0")  # fmt: skip


def _mysql_sessions(_: View) -> tuple[str, ...]:
    """Read only; and the server waits while a part that was read is loaded."""
    return ("SET SESSION TRANSACTION READ ONLY", "SET SESSION net_write_timeout = 3600")


def _mysql(view: View) -> dict[str, Any]:
    return {"connect_timeout": view.connect_seconds, "read_timeout": view.query_seconds,
            "write_timeout": view.connect_seconds, "charset": "utf8mb4"}  # fmt: skip


def _connect_timeout(view: View) -> dict[str, Any]:
    return {"connect_timeout": view.connect_seconds}


def _keepalive(view: View) -> dict[str, Any]:
    return {"connect_timeout": view.connect_seconds, "keepalives_idle": 30,
            "keepalives_interval": 10, "keepalives_count": 3,
            "application_name": "fhir-gateway"}  # fmt: skip


#: "dialect+driver" -> what it needs. Others are opened too: then SELECT alone keeps them read only.
_MAKES: dict[str, _Make] = {
    "postgresql+psycopg": _Make("psycopg", "psycopg[binary]", _keepalive, _postgres),
    "postgresql+psycopg2": _Make("psycopg2", "psycopg2-binary", _keepalive, _postgres),
    "postgresql+pg8000": _Make(
        "pg8000", "pg8000", lambda view: {"timeout": view.query_seconds}, _postgres
    ),
    "mysql+pymysql": _Make("pymysql", "pymysql", _mysql, _mysql_sessions),
    "mariadb+pymysql": _Make("pymysql", "pymysql", _mysql, _mysql_sessions),
    "mysql+mysqldb": _Make("MySQLdb", "mysqlclient", _connect_timeout, _mysql_sessions),
    "oracle+oracledb": _Make(
        "oracledb", "oracledb", lambda view: {"tcp_connect_timeout": view.connect_seconds}
    ),
    "mssql+pymssql": _Make(
        "pymssql",
        "pymssql",
        lambda view: {"login_timeout": view.connect_seconds, "timeout": view.query_seconds},
    ),
    "mssql+pyodbc": _Make("pyodbc", "pyodbc", lambda view: {"timeout": view.connect_seconds}),
    "sqlite+pysqlite": _Make(
        "sqlite3",
        "",
        lambda view: {"timeout": view.connect_seconds, "check_same_thread": False},
        lambda _: ("PRAGMA query_only = on",),
    ),
}
#: The driver of a dialect whose address names none.
_USUAL = {
    "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql",
    "oracle": "oracle+oracledb", "mssql": "mssql+pymssql", "sqlite": "sqlite+pysqlite",
}  # fmt: skip
#: Parts of an address that are no less secret than its password.
_SECRET = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)

#: What has to be the first statement of each transaction.
_BEGIN = {"oracle": "SET TRANSACTION READ ONLY"}


def engine_of(address: str, view: View) -> sa.Engine:
    """The database at an address; nothing is connected yet.

    Raises Invalid for what is no address, and with the package to install for a driver that is
    missing.
    """
    try:
        url = sa.make_url(address)
    except (ArgumentError, ValueError):
        url = None
    if url is None:
        raise Invalid(f"{_place(view)} holds no address of a database, such as "
                      "postgresql+psycopg://reader@host/lis", rule="view-address")  # fmt: skip
    url = url.set(drivername=_USUAL.get(url.drivername, url.drivername))
    make = _MAKES.get(url.drivername, _Make("", ""))
    if make.module:
        _import(url.drivername, make)
    if url.get_backend_name() == "sqlite":
        url = _sqlite(url)
    try:
        engine = sa.create_engine(
            url, poolclass=NullPool, hide_parameters=True, connect_args=make.arguments(view)
        )
    except NoSuchModuleError:
        raise Invalid(f"No dialect {url.drivername} is installed; see SQLAlchemy's list of "
                      "dialects for its package", rule="view-driver") from None  # fmt: skip
    except ImportError as error:
        raise _missing(url.drivername, error.name or "") from None
    except (SQLAlchemyError, TypeError, ValueError):
        raise Invalid(f"The address in {_place(view)} has a part that its driver does not know",
                      rule="view-address") from None  # fmt: skip
    if engine.dialect.is_async:
        raise Invalid(f"{url.drivername} is a driver for asyncio, which is not used here; name "
                      f"{_USUAL.get(url.get_backend_name(), 'another one')}",
                      rule="view-driver")  # fmt: skip
    _make_read_only(engine, make.sessions(view))
    return engine


def _place(view: View) -> str:
    return f"The variable {view.url_env}" if view.url_env else f"The file {view.url_file}"


def _import(driver: str, make: _Make) -> None:
    try:
        importlib.import_module(make.module)
    except ImportError:
        raise _missing(driver, make.package) from None


def _missing(driver: str, package: str) -> Invalid:
    named = f"pip install '{package}'" if package else "install its package"
    return Invalid(f"The driver of {driver} is not installed here: {named}", rule="view-driver")


def _sqlite(url: sa.URL) -> sa.URL:
    """The file opened as one that is only read, and never made."""
    if not url.database or url.database == ":memory:":
        raise Invalid("Name a file of SQLite: sqlite:////folder/file.sqlite", rule="view-address")
    file = f"file:{quote(str(Path(url.database).absolute()))}"
    return url.set(database=file, query={"mode": "ro", "uri": "true"})


def _make_read_only(engine: sa.Engine, sessions: tuple[str, ...]) -> None:
    """Each session begins with what makes it read only; the statements are those above."""

    def begin(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for statement in sessions:
            cursor.execute(statement)
        cursor.close()
        connection.commit()

    if sessions:
        sa.event.listen(engine, "connect", begin)


def connect(engine: sa.Engine, view: View) -> sa.Connection:
    """A connection, in a transaction that can only read. Raises Unavailable when there is none."""
    try:
        connection = engine.connect()
    except (DBAPIError, engine.dialect.loaded_dbapi.Error) as error:
        raise Unavailable(
            f"The database of {view.name} cannot be reached: {_reason(error, engine.url)}",
            rule="view-connection",
        ) from None
    with telling(view):
        if begin := _BEGIN.get(engine.dialect.name):
            connection.exec_driver_sql(begin)
    return connection


class Closing(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Lets go of it."""


def close(connection: sa.Connection, rows: Closing | None) -> None:
    """Lets go of a connection and what is read from it, also of one that is dead already."""
    for one in filter(None, (rows, connection)):
        try:
            one.close()
        except SQLAlchemyError:
            connection.invalidate()


@contextmanager
def telling(view: View) -> Iterator[None]:
    """What the database raises, as errors of the gateway: Unavailable, or Invalid for what it
    will refuse again."""
    try:
        yield
    except DBAPIError as error:
        raise _broken(error, view) from None


def interrupt(connection: sa.Connection) -> None:
    """Ends what runs on a connection, from another thread, where its driver can."""
    driver = connection.connection.dbapi_connection
    for name in ("cancel", "interrupt"):
        stop = getattr(driver, name, None)
        if stop is not None:
            with suppress(connection.dialect.loaded_dbapi.Error):
                stop()


def _reason(error: Exception, url: sa.URL) -> str:
    """What the driver says of a connection that it did not get, without the password."""
    text = " ".join(str(getattr(error, "orig", error)).split())[:300]
    for secret in filter(None, _secrets(url)):
        for spelled in (secret, quote(secret, safe="")):
            text = text.replace(spelled, "***")
    return text


def _secrets(url: sa.URL) -> list[str]:
    """The password, and what else in an address is one."""
    asked = url.normalized_query.items()
    more = [value for name, values in asked if _SECRET.search(name) for value in values]
    return [str(url.password or ""), *more]


def _broken(error: DBAPIError, view: View) -> GatewayError:
    """What went wrong in a statement: its class and code, for a text may quote a row."""
    code = next((str(found) for name in ("sqlstate", "pgcode", "sqlite_errorname")
                 if (found := getattr(error.orig, name, None))), "")  # fmt: skip
    if not code and error.orig is not None and error.orig.args:
        code = str(error.orig.args[0]) if isinstance(error.orig.args[0], int) else ""
    said = f"{type(error.orig).__name__} {code}".strip()
    lost = error.connection_invalidated or code.startswith(("08", "57"))
    if lost or isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
        return Unavailable(
            f"The database of {view.name} broke off or took too long ({said}). What was loaded "
            "stays; load again to go on",
            rule="view-connection",
        )
    return Invalid(f"The database refuses to read {view.name} ({said})", rule="view-query")
