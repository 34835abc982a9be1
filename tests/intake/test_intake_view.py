"""Reading a view of the hospital's database: the record that a file makes, whole, read only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from intake_cases import Opened, opened
from tabular_cases import RESULTS, Ward, bare, file, row
from view_cases import Hospital, mapped, pulled

from fhir_gateway.errors import GatewayError, Invalid, Unavailable, Unprocessable
from fhir_gateway.interactions import intake_view, intake_view_read
from fhir_gateway.interactions.intake_tabular_marks import loads
from fhir_gateway.interactions.intake_view import check_view
from fhir_gateway.interactions.intake_view_open import connect, engine_of

BOTH = (row(), row(item="CREA", value="79.0"))
LATER = "2026-11-18 12:31:00"
_numbers = count(1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with opened(tmp_path_factory.mktemp("views")) as one:
        yield one


@pytest.fixture
def ward(shared: Opened, tmp_path: Path) -> Ward:
    return Ward(shared, f"view-{next(_numbers)}", tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def hospital(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hospital]:
    one = Hospital(request.param, tmp_path)
    yield one
    one.close()


@pytest.fixture
def small(tmp_path: Path) -> Hospital:
    return Hospital("sqlite", tmp_path)


def figures(parts: list[Any]) -> tuple[int, int, int]:
    found = [part.loaded.figures for part in parts]
    return tuple(sum(getattr(one, name) for one in found)
                 for name in ("stored", "unchanged", "refused"))  # type: ignore[return-value]  # fmt: skip


def test_a_view_and_a_file_become_the_same_record(ward: Ward, hospital: Hospital) -> None:
    table = mapped(ward)
    hospital.fill(*BOTH)
    assert figures(pulled(ward, hospital, table)) == (1, 0, 0)
    parts = [("Patient",), ("ServiceRequest",), ("Observation",), ("Observation", "CREA"),
             ("DiagnosticReport",)]  # fmt: skip
    by_view = [ward.one(*part) for part in parts]
    assert str(by_view[3]["valueQuantity"]["value"]) == "79.0"
    loaded = ward.load(file(*BOTH), table, again=True)
    assert (loaded.figures.stored, loaded.figures.unchanged) == (0, 1)
    assert [bare(ward.one(*part)) for part in parts] == [bare(one) for one in by_view]


def test_a_view_is_read_from_its_watermark_and_reports_whole(
    ward: Ward, hospital: Hospital
) -> None:
    table = mapped(ward)
    hospital.fill(*BOTH, row(2, person=1))
    assert figures(pulled(ward, hospital, table)) == (2, 0, 0)
    before = ward.stored()
    assert figures(pulled(ward, hospital, table)) == (0, 2, 0)  # rows at it are read again
    assert pulled(ward, hospital, table)[0].loaded.whole
    assert ward.stored() == before
    hospital.execute(
        f"UPDATE rows_of_lab SET 结果 = '33', 更新时间 = '{LATER}' WHERE 项目代码 = 'ALT' "
        "AND 报告单号 = 'R1'"
    )
    hospital.execute(
        "UPDATE rows_of_lab SET 更新时间 = '2026-11-01 00:00:00' WHERE 项目代码 = 'CREA'"
    )
    (part,) = pulled(ward, hospital, table)
    assert (part.loaded.survey.rows, part.loaded.figures.groups) == (3, 2)
    assert str(ward.one("Observation")["valueQuantity"]["value"]) == "33"
    assert len(ward.one("DiagnosticReport")["result"]) == 2
    assert part.loaded.load is not None and part.loaded.load.watermark == "2026-11-18T12:31:00"
    (again,) = pulled(ward, hospital, table)
    assert again.loaded.survey.rows == 2  # the report at the watermark, with its older row


def test_rows_that_are_written_meanwhile_come_with_the_next_pull(
    ward: Ward, small: Hospital
) -> None:
    """The second row of a report arrives, with the same watermark, after the first was read."""
    small.fill(BOTH[0])
    table = mapped(ward)
    pulled(ward, small, table)
    assert len(ward.one("DiagnosticReport")["result"]) == 1
    small.fill(BOTH[1])
    assert figures(pulled(ward, small, table)) == (1, 0, 0)
    assert len(ward.one("DiagnosticReport")["result"]) == 2


def test_a_row_that_is_committed_late_with_an_earlier_watermark_is_not_lost(
    ward: Ward, small: Hospital
) -> None:
    """A transaction of the hospital was stamped at 12:28 and committed after what came at 12:31."""
    table = mapped(ward)
    small.fill(row(1, person=1, marked="2026-11-18 12:31:00"))
    pulled(ward, small, table)
    small.fill(row(2, person=2, marked="2026-11-18 12:28:00"))
    assert figures(pulled(ward, small, table)) == (1, 1, 0)
    (last, *_) = ward.opened.runner.run(loads(ward.opened.gateway, ward.id, table.name, 1))
    assert last.watermark == "2026-11-18T12:31:00"
    assert pulled(ward, small, table)[0].loaded.whole
    narrow = mapped(ward, "overlap = 60\n")
    small.fill(row(3, person=3, marked="2026-11-18 12:29:59"))
    assert figures(pulled(ward, small, narrow)) == (0, 1, 0)


def test_parts_hold_whole_reports_and_what_is_refused_holds_the_watermark(
    ward: Ward, small: Hospital
) -> None:
    table = mapped(ward, "rows_at_once = 2\n")
    moments = [f"2026-11-18 1{n}:00:00" for n in range(5)]
    small.fill(*(row(n, person=n, marked=at, status="?" if n == 1 else "已审核")
                    for n, at in enumerate(moments)), row(4, item="CREA", person=4))  # fmt: skip
    parts = pulled(ward, small, table)
    assert [part.loaded.survey.rows for part in parts] == [2, 2, 2]
    assert [part.name for part in parts] == [f"检验 结果 {n}" for n in (1, 2, 3)]
    assert figures(parts) == (4, 0, 1)
    known = ward.opened.runner.run(loads(ward.opened.gateway, ward.id, table.name, 10))
    assert {one.watermark for one in known} == {"2026-11-18T11:00:00"}
    small.execute("UPDATE rows_of_lab SET 状态 = '已审核'")
    assert figures(pulled(ward, small, table)) == (1, 3, 0)
    (last, *_) = ward.opened.runner.run(loads(ward.opened.gateway, ward.id, table.name, 1))
    assert last.watermark == "2026-11-18T14:00:00"


def test_a_pull_that_is_broken_off_goes_on(
    ward: Ward, small: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = mapped(ward, "rows_at_once = 2\n")
    small.fill(*(row(n, person=n, marked=f"2026-11-18 1{n}:00:00") for n in range(6)))
    real, seen = intake_view.load_table, 0

    async def counted(*given: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise Unavailable("gone")
        return await real(*given)

    monkeypatch.setattr(intake_view, "load_table", counted)
    with pytest.raises(Unavailable):
        pulled(ward, small, table)
    assert ward.stored()[3] == 4
    assert figures(pulled(ward, small, table)) == (2, 1, 0)  # one at the watermark
    assert ward.stored()[3] == 6


def test_a_dry_run_stores_nothing_and_again_reads_all(ward: Ward, small: Hospital) -> None:
    table = mapped(ward)
    small.fill(*BOTH)
    (part,) = pulled(ward, small, table, dry_run=True)
    assert part.loaded.figures.resources["Observation created"] == 2
    assert (part.loaded.load, ward.stored()) == (None, [0, 0, 0, 0, 0])
    pulled(ward, small, table)
    small.execute("UPDATE rows_of_lab SET 更新时间 = '2026-11-01 00:00:00'")
    assert pulled(ward, small, table) == []
    assert figures(pulled(ward, small, table, again=True)) == (0, 1, 0)


def test_nothing_can_be_written_through_the_connection(ward: Ward, hospital: Hospital) -> None:
    view = mapped(ward).database
    assert view is not None
    hospital.fill(*BOTH)
    connection = connect(engine_of(hospital.url, view), view)
    try:
        with pytest.raises(Exception, match=r"(?i)read-?only"):
            connection.exec_driver_sql("DELETE FROM rows_of_lab")
    finally:
        connection.close()


def test_what_a_map_says_is_quoted_or_bound(ward: Ward, hospital: Hospital) -> None:
    """A name or a value of a map is never SQL."""
    hospital.execute('CREATE VIEW "x""; DROP TABLE rows_of_lab; --" AS SELECT * FROM rows_of_lab')
    hospital.fill(*BOTH)
    hostile = mapped(ward, '[database.where]\n"病案号" = ["700123", "\' OR \'1\'=\'1"]\n')
    text = (ward.folder / "results.toml").read_text("utf-8")
    hostile = ward.mapped(text.replace('view = "检验 结果"',
                                       "view = 'x\"; DROP TABLE rows_of_lab; --'"))  # fmt: skip
    assert figures(pulled(ward, hospital, hostile)) == (1, 0, 0)
    assert figures(pulled(ward, hospital, mapped(ward))) == (0, 1, 0)


def test_a_number_may_be_the_watermark_and_none_may_be(ward: Ward, small: Hospital) -> None:
    small.fill(*(row(n, person=n) for n in range(3)))
    text = RESULTS.replace(
        'watermark = "更新时间"', 'watermark = "序号"\nwatermark_kind = "number"'
    )
    table = mapped(ward, "overlap = 0\n", results=text)
    assert figures(pulled(ward, small, table)) == (3, 0, 0)
    (part,) = pulled(ward, small, table)
    assert (part.loaded.survey.rows, part.loaded.figures.unchanged) == (1, 1)
    table = mapped(ward, results=RESULTS.replace('watermark = "更新时间"', ""))
    assert figures(pulled(ward, small, table, again=True)) == (0, 3, 0)
    assert pulled(ward, small, table)[0].loaded.figures.groups == 3
    assert pulled(ward, small, table)[0].loaded.whole


def test_a_pull_that_is_given_up_does_not_wait_for_the_database(
    ward: Ward, small: Hospital
) -> None:
    """A view that would take an hour."""
    small.fill(*BOTH)
    small.execute('DROP VIEW "检验 结果"')
    small.execute(
        'CREATE VIEW "检验 结果" AS SELECT r.* FROM rows_of_lab r, (WITH RECURSIVE n(x) AS (SELECT '
        "1 UNION ALL SELECT x + 1 FROM n WHERE x < 10000000000) SELECT max(x) m FROM n) WHERE m > 0"
    )
    table = mapped(ward)
    pull = intake_view.Pull(table, small.url)

    async def given_up() -> None:
        pulling = intake_view.pull_view(ward.opened.gateway, pull, lambda *_: None, lambda *_: None)
        await asyncio.wait_for(pulling, 0.5)

    with pytest.raises(TimeoutError):
        ward.opened.runner.run(given_up())
    for thread in [one for one in threading.enumerate() if one.name.startswith("view")]:
        thread.join(60)
        assert not thread.is_alive()


def test_where_takes_the_rows_of_one_branch(ward: Ward, small: Hospital) -> None:
    small.fill(*BOTH, row(2, person=1))
    table = mapped(ward, '[database.where]\n"报告单号" = "R2"\n')
    assert figures(pulled(ward, small, table)) == (1, 0, 0)


def test_types_of_the_database_become_cells(ward: Ward) -> None:
    hospital = Hospital("postgresql", ward.folder)
    hospital.fill(row(value="0.10"), row(2, person=1))
    hospital.execute("ALTER TABLE rows_of_lab RENAME TO old_rows")
    hospital.execute('DROP VIEW "检验 结果"')
    columns = ", ".join(
        '"结果"::numeric(30, 20) AS "结果"' if name == "结果" else f'"{name}"'
        for name in ("序号", *mapped(ward).columns.values(), "更新时间") if name != "状态"
    )  # fmt: skip
    hospital.execute(f'CREATE VIEW "检验 结果" AS SELECT {columns}, "状态" FROM old_rows')
    try:
        assert figures(pulled(ward, hospital, mapped(ward))) == (2, 0, 0)
        found = ward.one("Observation")
        assert str(found["valueQuantity"]["value"]) == "0.10000000000000000000"
        assert ward.one("DiagnosticReport")["issued"] == "2026-11-18T11:30:00+08:00"
    finally:
        hospital.close()


@pytest.mark.parametrize(
    ("change", "rule", "sentence"),
    [
        ('ALTER TABLE rows_of_lab RENAME COLUMN "结果" TO "值"', "table-header", "结果 is missing"),
        ("", "view-missing", "no table or view"),
        ('DROP VIEW "检验 结果"; ', "view-missing", "no table or view"),
    ],
)
def test_a_view_that_does_not_fit_is_named(
    ward: Ward, small: Hospital, change: str, rule: str, sentence: str
) -> None:
    table = mapped(ward)
    if change:
        small.execute('DROP VIEW "检验 结果"')
    if "RENAME" in change:
        small.execute(change)
        small.execute('CREATE VIEW "检验 结果" AS SELECT * FROM rows_of_lab')
    elif not change:
        table = ward.mapped((ward.folder / "results.toml").read_text("utf-8")
                            .replace("检验 结果", "nowhere"))  # fmt: skip
    with pytest.raises(Unprocessable) as refused:
        pulled(ward, small, table)
    assert refused.value.issues[0].rule == rule
    assert sentence in refused.value.issues[0].diagnostics


def test_bytes_and_a_watermark_of_text_are_refused_by_name(ward: Ward, small: Hospital) -> None:
    small.execute('DROP VIEW "检验 结果"')
    small.execute("ALTER TABLE rows_of_lab DROP COLUMN 结果")
    small.execute("ALTER TABLE rows_of_lab ADD COLUMN 结果 BLOB")
    small.execute("ALTER TABLE rows_of_lab DROP COLUMN 更新时间")
    small.execute("ALTER TABLE rows_of_lab ADD COLUMN 更新时间 TEXT")
    small.execute('CREATE VIEW "检验 结果" AS SELECT * FROM rows_of_lab')
    with pytest.raises(Unprocessable) as refused:
        pulled(ward, small, mapped(ward))
    said = [one.diagnostics for one in refused.value.issues]
    assert "结果 holds bytes" in said[0] and "更新时间 is no date or time" in said[1]


def test_a_row_without_watermark_is_refused_and_not_passed_over(
    ward: Ward, hospital: Hospital
) -> None:
    table = mapped(ward)
    hospital.fill(*BOTH)
    pulled(ward, hospital, table)
    hospital.fill(row(2, person=1))
    hospital.execute("UPDATE rows_of_lab SET 更新时间 = NULL WHERE 报告单号 = 'R2'")
    (part,) = pulled(ward, hospital, table)
    assert [one.rule for one in part.loaded.figures.refusals] == ["table-watermark"]


def test_a_lost_connection_is_told_without_the_password(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = Hospital("postgresql", ward.folder)
    view = mapped(ward, "connect_attempts = 3\n").database
    assert view is not None
    table = mapped(ward, "connect_attempts = 3\n")
    monkeypatch.setattr(intake_view, "FIRST_WAIT", 0.01)
    secret, waits = "s3cret", list[str]()
    address = hospital.url.replace("p%40ss%2Fw%C3%B6rd", secret)
    assert secret in address
    pull = intake_view.Pull(table, address)
    with pytest.raises(Unavailable) as refused:
        ward.opened.runner.run(
            intake_view.pull_view(
                ward.opened.gateway, pull, lambda *_: None, lambda why, _: waits.append(why)
            )
        )
    assert len(waits) == 2
    assert secret not in str(refused.value) + str(waits)
    hospital.close()


def test_a_connection_that_breaks_half_way_stores_nothing_torn(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = Hospital("postgresql", ward.folder)
    hospital.fill(*(row(n, person=n, marked=f"2026-11-18 1{n}:00:00") for n in range(6)))
    table = mapped(ward, "rows_at_once = 2\n")
    monkeypatch.setattr(intake_view_read, "_FETCH", 1)
    real = intake_view.load_table

    async def cut(*given: Any) -> Any:
        hospital.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                         "WHERE application_name = 'fhir-gateway'")  # fmt: skip
        return await real(*given)

    monkeypatch.setattr(intake_view, "load_table", cut)
    with pytest.raises(Unavailable, match="load again to go on"):
        pulled(ward, hospital, table)
    assert ward.stored()[3] == 2
    monkeypatch.setattr(intake_view, "load_table", real)
    assert figures(pulled(ward, hospital, table)) == (4, 1, 0)
    hospital.close()


@pytest.mark.parametrize(
    ("address", "rule", "sentence"),
    [
        ("no address", "view-address", "holds no address"),
        ("mysql://reader:hidden@host/lis", "view-driver", "pip install 'pymysql'"),
        ("oracle://reader:hidden@host/lis", "view-driver", "pip install 'oracledb'"),
        ("mssql://reader:hidden@host/lis", "view-driver", "pip install 'pymssql'"),
        ("nonsense+x://reader:hidden@host/lis", "view-driver", "No dialect"),
        ("postgresql+asyncpg://reader:hidden@host/lis", "view-driver", "driver for asyncio"),
        ("sqlite://", "view-address", "Name a file"),
    ],
)
def test_an_address_that_cannot_be_used_says_what_to_do(
    ward: Ward, address: str, rule: str, sentence: str
) -> None:
    with pytest.raises(Invalid) as refused:
        ward.opened.runner.run(check_view(mapped(ward), address))
    assert refused.value.issues[0].rule == rule
    assert sentence in refused.value.issues[0].diagnostics
    assert "hidden" not in refused.value.issues[0].diagnostics


def test_a_file_of_sqlite_is_never_made(ward: Ward, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        ward.opened.runner.run(check_view(mapped(ward), f"sqlite:///{tmp_path}/none.sqlite"))
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.parametrize(
    ("database", "place"),
    [
        ('[database]\nview = "v"', "database: name where the address"),
        ('[database]\nurl_env = "A"', "database, view"),
        ('[database]\nurl = "postgresql://a:b@c/d"\nview = "v"\nurl_env = "A"', "database, url"),
        ('[database]\nurl_env = "postgresql://a:b@c/d"\nview = "v"', "database, url_env"),
        ('[database]\nurl_env = "FHIR_GATEWAY_X"\nview = "v"', "gateway's own settings"),
        ('[database]\nurl_env = "A"\nview = "v"\nrows_at_once = 0', "database, rows_at_once"),
        ('[database]\nurl_env = "A"\nview = "v"\norder = "x"', "database, order"),
        ('[database]\nurl_env = "A"\nview = "v"\nwhere = {a = [1.5]}', "database, where, a"),
        ("database = 1", "database: this must be a table"),
    ],
)
def test_faults_of_the_table_database_are_named(ward: Ward, database: str, place: str) -> None:
    text = "database = 1\n" if database.endswith("= 1") and "[" not in database else ""
    with pytest.raises(GatewayError) as refused:
        mapped_text = text + (ward.folder / "results.toml").read_text("utf-8")
        ward.mapped(mapped_text + ("" if text else database))
    assert any(place in one.diagnostics for one in refused.value.issues)
    assert "a:b@c" not in str([one.diagnostics for one in refused.value.issues])
