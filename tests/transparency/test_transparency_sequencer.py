"""The sequencer on both stores: dense numbers, one seat, heads in time, and when it must stop."""

from __future__ import annotations

import pytest
from audit_logs import SmallLog
from databases import Databases

from fhir_gateway.audit import tree
from fhir_gateway.audit.tree_entry import row_hash
from fhir_gateway.errors import Conflict, Invalid
from fhir_gateway.store import log
from fhir_gateway.store.log import Claim, Seal, Vacate
from fhir_gateway.transparency import govern, keys
from fhir_gateway.transparency.note import Signer, is_signed, read_note, read_signature, time_of
from fhir_gateway.transparency.sequencer import BEAT_SECONDS, LATE_SECONDS, Sequencer, Stopped
from fhir_gateway.transparency.statement import check_chain
from fhir_gateway.transparency.watermark import Watermark, watermark


def mark(small: SmallLog) -> Watermark:
    return small.run(watermark(small.gateway.store, small.clock))


def test_every_record_gets_the_leaf_of_its_rank(small: SmallLog) -> None:
    small.record(300)
    assert small.sign() == 300
    small.record(40)
    assert small.sign() == 40
    leaves = [row_hash(row) for row in small.rows()]
    assert small.head().size == 340
    assert small.root() == tree.root(leaves)
    assert small.head().place == small.rows()[-1].place
    assert small.verify().findings == []


def test_nothing_new_signs_nothing_and_a_quiet_log_signs_again(small: SmallLog) -> None:
    small.record(3)
    small.sign()
    first = small.head()
    small.clock.time += 1_000_000
    assert small.sign() == 0
    assert small.head() == first
    small.clock.time += BEAT_SECONDS * 1_000_000
    assert small.sign() == 0
    beat = small.head()
    assert (beat.size, beat.note) == (first.size, first.note)
    assert time_of(read_signature(beat.beat)) == small.clock.time // 1_000_000
    assert mark(small).silent == 0
    assert small.verify().findings == []


def test_155_a_gap_is_an_alarm_while_it_lasts_and_stands_in_the_log_afterwards(
    small: SmallLog,
) -> None:
    small.record(3)
    small.sign()
    assert not mark(small).late
    small.clock.time += (LATE_SECONDS + 1) * 1_000_000
    late = mark(small)
    assert late.late and late.silent == LATE_SECONDS + 1
    small.record(1)
    before = len(small.rows())
    small.sign()
    assert not mark(small).late
    assert len(small.rows()) == before + 1  # the gap itself is a record, and numbered too
    assert small.head().size == before + 1


def test_a_record_that_waits_too_long_is_late(small: SmallLog) -> None:
    small.record(2)
    small.clock.time += 61_000_000
    assert (mark(small).waiting, mark(small).late) == (2, True)
    small.sign()
    assert mark(small).waiting == 0


def test_149_a_record_that_was_changed_before_its_number_is_never_signed(
    small: SmallLog, database: Databases
) -> None:
    small.record(5)
    small.sign()
    small.record(4)
    victim = small.rows()[7]
    t, n, i = victim.place
    zero = "x'00'" if database.driver == "sqlite" else "'\\x00'::bytea"
    database.execute(f"UPDATE journal SET nonce = {zero} WHERE t = {t} AND n = {n} AND i = {i}")
    with pytest.raises(Stopped) as refused:
        small.sign()
    assert small.head().size == 7  # the sound ones before it are signed
    assert str(victim.place) in str(refused.value)
    assert "changed after its commit" in mark(small).alarm
    with pytest.raises(Stopped):
        small.sign()
    assert small.head().size == 7
    assert [each.kind for each in small.verify().findings] == ["changed"]


def test_149_a_stored_tree_that_was_changed_is_never_grown(
    small: SmallLog, database: Databases
) -> None:
    small.record(300)
    small.sign()
    other = (
        "CAST(x'00' || substr(hashes, 2) AS BLOB)"
        if database.driver == "sqlite"
        else "'\\x00'::bytea || substring(hashes from 2)"
    )
    database.execute(f"UPDATE log_tile SET hashes = {other} WHERE level = 0 AND number = 1")
    small.record(1)
    with pytest.raises(Stopped):
        small.sign()
    assert small.head().size == 300
    assert "tree" in mark(small).alarm


def test_one_process_sits_and_the_other_waits_for_its_lease(small: SmallLog) -> None:
    other = Sequencer(small.gateway, holder="other", lease=5_000_000)
    small.record(2)
    assert small.sign() == 2
    small.record(1)
    assert small.run(other.step()) == 0  # somebody sits there
    small.clock.time += 11_000_000
    assert small.run(other.step()) == 1
    small.record(1)
    assert small.sign() == 0  # the first one has lost the seat, and finds out
    assert small.run(other.step()) == 1
    assert small.head().size == 4
    small.run(other.vacate())
    small.record(1)
    assert small.sign() == 1


def test_101_a_process_that_slept_past_its_lease_signs_no_second_head(small: SmallLog) -> None:
    small.record(4)
    small.run(small.sequencer.sit())
    seal = _seal_of(small)
    small.clock.time += 11_000_000
    awake = Sequencer(small.gateway, holder="awake")
    assert small.run(awake.all()) == 4
    with pytest.raises(Conflict) as refused:
        small.run(small.gateway.store.log(seal))
    assert refused.value.issues[0].rule == "log-seat"
    heads = small.run(log.heads(small.gateway.store))
    assert [head.size for head in heads] == [4]


def test_the_store_refuses_a_head_that_skips_or_repeats(small: SmallLog) -> None:
    small.record(4)
    small.run(small.sequencer.sit())
    good = _seal_of(small)
    commit = small.gateway.store.log
    skipping = _with(good, size=5)
    with pytest.raises(Conflict) as refused:
        small.run(commit(skipping))
    assert refused.value.issues[0].rule == "log-skips"
    assert small.run(commit(good)) == 4
    for again in (good, _with(good, turn=0), _with(good, after=4, turn=7, size=8)):
        with pytest.raises(Conflict) as refused:
            small.run(commit(again))
        assert refused.value.issues[0].rule == "log-moved"
    assert small.run(log.seat(small.gateway.store)).fence == 1
    assert small.run(commit(Claim("other", 1, True))) == 2
    assert small.run(commit(Vacate(1))) == 2  # an old fence frees nothing
    assert small.run(log.seat(small.gateway.store)).holder == "other"


def _seal_of(small: SmallLog) -> Seal:
    """What the sequencer would hand to the store now, caught on its way."""
    caught: list[Seal] = []
    store = small.gateway.store
    real = store.log

    async def catch(command):
        if isinstance(command, Seal):
            caught.append(command)
            raise Conflict("caught", rule="log-moved")
        return await real(command)

    store.log = catch
    try:
        small.sign()
    finally:
        del store.log
    small.sequencer._fence = caught[0].fence
    return caught[0]


def _with(seal: Seal, **changes: int) -> Seal:
    fields = {name: getattr(seal, name) for name in seal.__struct_fields__}
    return Seal(**{**fields, **changes})


def test_101_a_key_file_that_was_cut_off_or_lies_open_is_refused(small: SmallLog) -> None:
    small.record(1)
    whole = small.key.read_text()
    for cut in (whole[:-1], whole[:-9] + "\n", "", whole.replace("AQ", "Ag", 1), "x\n", "\xff"):
        small.key.write_text(cut)
        with pytest.raises(Invalid):
            keys.read_keys(small.key)
        with pytest.raises(Invalid):
            small.sign()
    small.key.write_text(whole)
    small.key.chmod(0o644)
    with pytest.raises(Invalid) as refused:
        small.sign()
    assert "chmod 600" in str(refused.value)
    small.key.chmod(0o600)
    assert small.sign() == 1


def test_101_no_key_overwrites_another(small: SmallLog) -> None:
    before = small.key.read_bytes()
    with pytest.raises(Invalid):
        keys.write_new(small.key, Signer("other", bytes(32)))
    assert small.key.read_bytes() == before
    assert [path.name for path in small.key.parent.glob("*.new")] == []
    with pytest.raises(Invalid):
        keys.new_signer("two words")


def test_a_log_goes_on_with_no_key_but_its_own(small: SmallLog) -> None:
    small.record(1)
    small.sign()
    small.record(1)
    small.key.unlink()
    with pytest.raises(Invalid):
        small.sign()
    keys.write_new(small.key, Signer("gw.example/audit-log", bytes([7]) * 32))
    with pytest.raises(Invalid) as refused:
        small.sign()
    assert refused.value.issues[0].rule == "log-key-other"


def test_156_a_new_key_is_signed_by_the_old_and_stands_in_the_log(small: SmallLog) -> None:
    small.record(5)
    small.sign()
    old = keys.read_keys(small.key)[0].verifier
    statement = small.run(govern.rotate(small.gateway, "yearly\nchange"))
    held = keys.read_keys(small.key)
    assert [signer.verifier for signer in held] == [old, statement.key]
    turns = small.run(log.turns(small.gateway.store))
    chain = check_chain([turn.note for turn in turns])
    assert [each.kind for each in chain] == ["begin", "key"]
    assert chain[1].reason == "yearly change"
    assert all(is_signed(read_note(turns[1].note), key) for key in (old, statement.key))
    assert turns[1].event in {row.id for row in small.rows()}
    small.record(2)
    assert small.sign() == 2
    assert is_signed(read_note(small.head().note), statement.key)
    assert not is_signed(read_note(small.head().note), old)
    assert small.verify(key=old).findings == []
    assert small.verify(key=statement.key).findings != []  # it did not begin with that one


def test_156_the_old_key_signs_no_head_behind_the_change(
    small: SmallLog, database: Databases
) -> None:
    small.record(2)
    small.run(govern.rotate(small.gateway, "stolen"))
    thief = keys.read_keys(small.key)[0]
    head = small.head()
    text = read_note(head.note).text
    forged = f"{text}\n{thief.sign(text)}{thief.cosign(text, head.signed)}"
    database.execute(f"UPDATE log_head SET note = '{forged}' WHERE size = {head.size}")
    assert "signature" in {finding.kind for finding in small.verify().findings}


def test_a_rotation_that_was_cut_short_is_finished_by_the_next(small: SmallLog) -> None:
    small.record(1)
    small.sign()
    held = keys.read_keys(small.key)
    keys.add_key(small.key, [*held, Signer(held[0].verifier.name, bytes([9]) * 32)])
    small.record(1)
    assert small.sign() == 1  # the log goes on with the key that it states
    statement = small.run(govern.rotate(small.gateway, "once more"))
    assert statement.key == keys.read_keys(small.key)[1].verifier
    assert len(keys.read_keys(small.key)) == 2
