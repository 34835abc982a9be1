-- Bookable time (docs/adr/0049-seats-and-quotas.md). Slots, seats and quotas lie in the homes of
-- institutions, bookings in the homes of persons. They tell what is, not what was: the resources
-- have the history. Keys of resources are key64 of "Type/id".
CREATE TABLE schedule_row (     -- what a Schedule says
    home BIGINT NOT NULL, schedule BIGINT NOT NULL, id TEXT COLLATE "C" NOT NULL,
    master TEXT COLLATE "C" NOT NULL,
    department TEXT COLLATE "C" NOT NULL, kind TEXT COLLATE "C" NOT NULL,
    items TEXT COLLATE "C" NOT NULL, services TEXT COLLATE "C" NOT NULL,
    district TEXT COLLATE "C" NOT NULL, practitioner TEXT COLLATE "C" NOT NULL,
    location TEXT COLLATE "C" NOT NULL,
    active BIGINT NOT NULL,
    PRIMARY KEY (home, schedule)
);
CREATE TABLE slot_row (         -- what a Slot says, and until when all of its seats are taken
    home BIGINT NOT NULL, slot BIGINT NOT NULL, id TEXT COLLATE "C" NOT NULL,
    schedule BIGINT NOT NULL,
    "start" BIGINT NOT NULL, "end" BIGINT NOT NULL, capacity BIGINT NOT NULL,
    open BIGINT NOT NULL, busy BIGINT NOT NULL, kind TEXT COLLATE "C" NOT NULL,
    bucket TEXT COLLATE "C" NOT NULL,
    items TEXT COLLATE "C" NOT NULL, full_until BIGINT NOT NULL,
    PRIMARY KEY (home, slot), CHECK (capacity >= 0)
);
CREATE INDEX slot_row_bucket ON slot_row (home, bucket, kind, open, capacity);
CREATE INDEX slot_row_schedule ON slot_row (home, schedule, "start");
CREATE TABLE slot_item (        -- Slots with a seat to sell by catalogue item, "" for all of them;
    -- `pool` is a hash of home, bucket and kind, 0 without a bucket
    item TEXT COLLATE "C" NOT NULL, "start" BIGINT NOT NULL, home BIGINT NOT NULL,
    slot BIGINT NOT NULL, pool BIGINT NOT NULL, kind TEXT COLLATE "C" NOT NULL,
    schedule BIGINT NOT NULL, full_until BIGINT NOT NULL,
    PRIMARY KEY (item, "start", home, slot) INCLUDE (pool, kind, schedule, full_until)
);
CREATE TABLE seat (             -- who has which seat of a Slot; `until` ends a hold, 0 is for good
    home BIGINT NOT NULL, slot BIGINT NOT NULL, seat BIGINT NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    "until" BIGINT NOT NULL, bucket TEXT COLLATE "C" NOT NULL, kind TEXT COLLATE "C" NOT NULL,
    channel TEXT COLLATE "C" NOT NULL,
    person BIGINT NOT NULL, appointment BIGINT NOT NULL,
    PRIMARY KEY (home, slot, seat), CHECK (seat > 0), CHECK (state IN ('held', 'booked')),
    CHECK ((state = 'held') = ("until" > 0))
);
CREATE UNIQUE INDEX seat_appointment ON seat (home, appointment);
CREATE INDEX seat_lapsing ON seat (home, bucket, kind, channel, "until") WHERE "until" > 0;
CREATE TABLE quota (            -- the part of one channel in a bucket
    home BIGINT NOT NULL, bucket TEXT COLLATE "C" NOT NULL, kind TEXT COLLATE "C" NOT NULL,
    channel TEXT COLLATE "C" NOT NULL,
    place BIGINT NOT NULL, cap BIGINT NOT NULL, used BIGINT NOT NULL, opens BIGINT NOT NULL,
    closes BIGINT NOT NULL, falls_to TEXT COLLATE "C" NOT NULL, serial BIGINT NOT NULL,
    pool BIGINT NOT NULL,
    PRIMARY KEY (home, bucket, kind, channel), CHECK (used >= 0), CHECK (used <= cap)
);
CREATE INDEX quota_pool ON quota (pool);
CREATE INDEX quota_closing ON quota (closes) WHERE closes > 0;
CREATE TABLE booking (          -- what a person has, had and missed
    home BIGINT NOT NULL, appointment BIGINT NOT NULL, id TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    "until" BIGINT NOT NULL, slot_home BIGINT NOT NULL, slot BIGINT NOT NULL,
    "start" BIGINT NOT NULL, "end" BIGINT NOT NULL, "day" BIGINT NOT NULL,
    department TEXT COLLATE "C" NOT NULL, channel TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (home, appointment)
) PARTITION BY HASH (home);
DO $$ BEGIN
  FOR part IN 0..7 LOOP
    EXECUTE format('CREATE TABLE booking_%s PARTITION OF booking'
      ' FOR VALUES WITH (MODULUS 8, REMAINDER %s)', part, part);
  END LOOP;
END $$;
CREATE INDEX booking_lapsing ON booking ("until") WHERE "until" > 0;
-- No seat beyond the capacity: what judging promises, said again by the database.
CREATE FUNCTION seat_within() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.seat > coalesce(
    (SELECT capacity FROM slot_row WHERE home = NEW.home AND slot = NEW.slot), 0) THEN
    RAISE EXCEPTION 'seat beyond the capacity';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER seat_within AFTER INSERT ON seat FOR EACH ROW EXECUTE FUNCTION seat_within();
