-- Bookable time (docs/adr/0049-seats-and-quotas.md). Slots, seats and quotas lie in the homes of
-- institutions, bookings in the homes of persons. They tell what is, not what was: the resources
-- have the history. Keys of resources are key64 of "Type/id".
CREATE TABLE schedule_row (     -- what a Schedule says
    home INTEGER NOT NULL, schedule INTEGER NOT NULL, id TEXT NOT NULL, master TEXT NOT NULL,
    department TEXT NOT NULL, kind TEXT NOT NULL, items TEXT NOT NULL, services TEXT NOT NULL,
    district TEXT NOT NULL, practitioner TEXT NOT NULL, location TEXT NOT NULL,
    active INTEGER NOT NULL,
    PRIMARY KEY (home, schedule)
) STRICT, WITHOUT ROWID;
CREATE TABLE slot_row (         -- what a Slot says, and until when all of its seats are taken
    home INTEGER NOT NULL, slot INTEGER NOT NULL, id TEXT NOT NULL, schedule INTEGER NOT NULL,
    "start" INTEGER NOT NULL, "end" INTEGER NOT NULL, capacity INTEGER NOT NULL,
    open INTEGER NOT NULL, busy INTEGER NOT NULL, kind TEXT NOT NULL, bucket TEXT NOT NULL,
    items TEXT NOT NULL, full_until INTEGER NOT NULL,
    PRIMARY KEY (home, slot), CHECK (capacity >= 0)
) STRICT, WITHOUT ROWID;
CREATE INDEX slot_row_bucket ON slot_row (home, bucket, kind, open, capacity);
CREATE INDEX slot_row_schedule ON slot_row (home, schedule, "start");
CREATE TABLE slot_item (        -- Slots with a seat to sell by catalogue item, "" for all of them;
    -- `pool` is a hash of home, bucket and kind, 0 without a bucket
    item TEXT NOT NULL, "start" INTEGER NOT NULL, home INTEGER NOT NULL, slot INTEGER NOT NULL,
    pool INTEGER NOT NULL, kind TEXT NOT NULL, schedule INTEGER NOT NULL,
    full_until INTEGER NOT NULL,
    PRIMARY KEY (item, "start", home, slot)
) STRICT, WITHOUT ROWID;
CREATE TABLE seat (             -- who has which seat of a Slot; `until` ends a hold, 0 is for good
    home INTEGER NOT NULL, slot INTEGER NOT NULL, seat INTEGER NOT NULL, state TEXT NOT NULL,
    "until" INTEGER NOT NULL, bucket TEXT NOT NULL, kind TEXT NOT NULL, channel TEXT NOT NULL,
    person INTEGER NOT NULL, appointment INTEGER NOT NULL,
    PRIMARY KEY (home, slot, seat), CHECK (seat > 0), CHECK (state IN ('held', 'booked')),
    CHECK ((state = 'held') = ("until" > 0))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX seat_appointment ON seat (home, appointment);
CREATE INDEX seat_lapsing ON seat (home, bucket, kind, channel, "until") WHERE "until" > 0;
CREATE TABLE quota (            -- the part of one channel in a bucket
    home INTEGER NOT NULL, bucket TEXT NOT NULL, kind TEXT NOT NULL, channel TEXT NOT NULL,
    place INTEGER NOT NULL, cap INTEGER NOT NULL, used INTEGER NOT NULL, opens INTEGER NOT NULL,
    closes INTEGER NOT NULL, falls_to TEXT NOT NULL, serial INTEGER NOT NULL,
    pool INTEGER NOT NULL,
    PRIMARY KEY (home, bucket, kind, channel), CHECK (used >= 0), CHECK (used <= cap)
) STRICT, WITHOUT ROWID;
CREATE INDEX quota_pool ON quota (pool);
CREATE INDEX quota_closing ON quota (closes) WHERE closes > 0;
CREATE TABLE booking (          -- what a person has, had and missed
    home INTEGER NOT NULL, appointment INTEGER NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL,
    "until" INTEGER NOT NULL, slot_home INTEGER NOT NULL, slot INTEGER NOT NULL,
    "start" INTEGER NOT NULL, "end" INTEGER NOT NULL, "day" INTEGER NOT NULL,
    department TEXT NOT NULL, channel TEXT NOT NULL,
    PRIMARY KEY (home, appointment)
) STRICT, WITHOUT ROWID;
CREATE INDEX booking_lapsing ON booking ("until") WHERE "until" > 0;
-- No seat beyond the capacity: what judging promises, said again by the database.
CREATE TRIGGER seat_within BEFORE INSERT ON seat WHEN NEW.seat > coalesce(
    (SELECT capacity FROM slot_row WHERE home = NEW.home AND slot = NEW.slot), 0)
BEGIN SELECT RAISE(ABORT, 'seat beyond the capacity'); END;
