"""Tables of the PostgreSQL spool, and the steps from one version of them to the next.

Several nodes share it. A lease is a row's `owner`, `lease` and `lease_until`; `lease` only ever grows, so
that whoever was away for too long cannot settle what another has taken (SEC-213). Text that peers can choose
is kept as bytes: PostgreSQL's text knows no NUL.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outrider.spool.interface import SpoolError

VERSION_1 = """
CREATE TABLE outrider.messages (
  id text PRIMARY KEY,
  received_at double precision NOT NULL,
  data bytea NOT NULL                     -- codec.encode_message
);
CREATE TABLE outrider.contents (          -- gone when every recipient is final
  message text PRIMARY KEY,
  headers bytea NOT NULL,
  body bytea,                             -- or NULL, and then
  reference bytea,                        -- bodies.BodyReference; the octets are in `pieces`
  digest bytea NOT NULL                   -- of headers, and of body if it is here
);
ALTER TABLE outrider.contents ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE outrider.bodies (            -- bodies in pieces, from before their message is stored
  name text PRIMARY KEY,
  message text NOT NULL,
  owner text NOT NULL,
  begun_at timestamptz NOT NULL DEFAULT now(),
  named boolean NOT NULL DEFAULT false    -- a stored message has it
);
CREATE INDEX bodies_of_message ON outrider.bodies (message);
CREATE TABLE outrider.pieces (
  body text NOT NULL REFERENCES outrider.bodies (name) ON DELETE CASCADE,
  number integer NOT NULL,
  octets bytea NOT NULL,
  PRIMARY KEY (body, number)
);
ALTER TABLE outrider.pieces ALTER COLUMN octets SET STORAGE EXTERNAL;

CREATE TABLE outrider.items (             -- the queue: unfinished items only
  message text NOT NULL,
  number integer NOT NULL,
  state smallint NOT NULL CHECK (state IN (0, 1, 2, 4)),
  rank smallint NOT NULL CHECK (rank IN (0, 1, 2)),
  next_attempt_at double precision NOT NULL,
  destination bytea NOT NULL,
  data bytea NOT NULL,                    -- codec.encode_item
  lease bigint NOT NULL DEFAULT 0,
  lease_until double precision NOT NULL DEFAULT 0,
  owner text NOT NULL DEFAULT '',
  solo boolean NOT NULL DEFAULT false,
  received_at double precision NOT NULL,
  PRIMARY KEY (message, number)
) WITH (fillfactor = 80);
CREATE INDEX items_due ON outrider.items (rank, next_attempt_at) WHERE state = 0;
CREATE INDEX items_by_destination ON outrider.items (destination, next_attempt_at) WHERE state = 0;
CREATE INDEX items_suspect ON outrider.items (next_attempt_at) WHERE state = 4;
CREATE INDEX items_leased ON outrider.items (lease_until) WHERE state = 1;
CREATE INDEX items_oldest ON outrider.items (received_at);

CREATE TABLE outrider.trail (             -- events after the first, and items that are done
  message text NOT NULL,
  n bigint GENERATED ALWAYS AS IDENTITY,
  data bytea NOT NULL,                    -- codec.encode_trail
  PRIMARY KEY (message, n)
);
CREATE TABLE outrider.finished (
  message text PRIMARY KEY,
  at double precision NOT NULL
);
CREATE INDEX finished_at ON outrider.finished (at);

CREATE TABLE outrider.quarantine (        -- malformed rows, kept for a person to look at
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT now(),
  origin text NOT NULL,
  name text NOT NULL,
  why text NOT NULL,
  item jsonb NOT NULL
);

-- How many items are in each state, so that counting never reads the queue. Each session adds to a row of its
-- own: nobody waits for anybody.
CREATE TABLE outrider.counters (
  session integer PRIMARY KEY,
  ready bigint NOT NULL,
  active bigint NOT NULL,
  held bigint NOT NULL
);
CREATE FUNCTION outrider.count_moves(ready bigint, active bigint, held bigint) RETURNS void
LANGUAGE sql AS $$
  INSERT INTO outrider.counters AS c VALUES (pg_backend_pid(), $1, $2, $3)
  ON CONFLICT (session) DO UPDATE
    SET ready = c.ready + $1, active = c.active + $2, held = c.held + $3
$$;
CREATE FUNCTION outrider.count_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM outrider.count_moves(
    count(*) FILTER (WHERE state IN (0, 4)), count(*) FILTER (WHERE state = 1),
    count(*) FILTER (WHERE state = 2))
  FROM after_rows;
  RETURN NULL;
END $$;
CREATE FUNCTION outrider.count_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM outrider.count_moves(
    -count(*) FILTER (WHERE state IN (0, 4)), -count(*) FILTER (WHERE state = 1),
    -count(*) FILTER (WHERE state = 2))
  FROM before_rows;
  RETURN NULL;
END $$;
CREATE FUNCTION outrider.count_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM outrider.count_moves(
    coalesce(sum(n) FILTER (WHERE state IN (0, 4)), 0)::bigint,
    coalesce(sum(n) FILTER (WHERE state = 1), 0)::bigint,
    coalesce(sum(n) FILTER (WHERE state = 2), 0)::bigint)
  FROM (SELECT state, 1 AS n FROM after_rows UNION ALL SELECT state, -1 FROM before_rows) AS moves;
  RETURN NULL;
END $$;
CREATE TRIGGER count_inserted AFTER INSERT ON outrider.items REFERENCING NEW TABLE AS after_rows
  FOR EACH STATEMENT EXECUTE FUNCTION outrider.count_inserted();
CREATE TRIGGER count_deleted AFTER DELETE ON outrider.items REFERENCING OLD TABLE AS before_rows
  FOR EACH STATEMENT EXECUTE FUNCTION outrider.count_deleted();
CREATE TRIGGER count_updated AFTER UPDATE ON outrider.items
  REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows
  FOR EACH STATEMENT EXECUTE FUNCTION outrider.count_updated();
"""

VERSION_2 = """
CREATE TABLE outrider.commits (           -- how many transactions a connection has committed: see `database`
  connection text PRIMARY KEY,
  count bigint NOT NULL DEFAULT 1,
  at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
"""

VERSION_3 = """
CREATE TABLE outrider.pauses (            -- destinations to which no node starts anything
  destination bytea PRIMARY KEY,
  paused_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE outrider.lanes (             -- one row to lock for each lane whose slots are being shared out
  lane bytea PRIMARY KEY,
  used_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE TABLE outrider.lane_slots (        -- what each node holds of a lane: see `sharing`
  lane bytea NOT NULL,
  node text NOT NULL,
  held integer NOT NULL,
  wanted integer NOT NULL,
  until timestamptz NOT NULL,
  PRIMARY KEY (lane, node)
) WITH (fillfactor = 50);
CREATE INDEX lane_slots_of_node ON outrider.lane_slots (node);
"""

VERSION_4 = """
ALTER TABLE outrider.contents ADD COLUMN objects bytea;  -- codec.encode_objects: the MT2 form, if it has one
CREATE TABLE outrider.transfers (         -- MT2 transfers that were taken; outlive their messages
  peer bytea NOT NULL,                    -- the proven identity
  transfer bytea NOT NULL,
  until double precision NOT NULL,
  data bytea NOT NULL,                    -- codec.encode_transfer
  PRIMARY KEY (peer, transfer)
);
CREATE INDEX transfers_until ON outrider.transfers (until);
"""

VERSION_5 = """
CREATE INDEX messages_by_age ON outrider.messages (received_at, id);  -- pages of finished mail: see `listing`
"""

MIGRATIONS: tuple[str, ...] = (VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5)
"""Entry n leads from version n to n + 1. Never edit, only append."""

_LOCK = 0x6F75_7472  # "outr": any number that nobody else uses as an advisory lock of this database


async def migrate(connection: AsyncConnection[TupleRow], migrations: Sequence[str] = MIGRATIONS) -> int:
    """Bring the schema up to date, one node at a time; the version it had before.

    Raises SpoolError where the database was made by a newer program.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        await connection.execute("CREATE SCHEMA IF NOT EXISTS outrider")
        await connection.execute("CREATE TABLE IF NOT EXISTS outrider.version (version integer NOT NULL)")
        before = await version(connection)
        if before > len(migrations):
            raise SpoolError(
                f"the spool has schema {before}, this program knows up to {len(migrations)}: "
                "it was used by a newer release; update this node too"
            )
        for migration in migrations[before:]:
            await connection.execute(migration.encode())
        await connection.execute("DELETE FROM outrider.version")
        await connection.execute("INSERT INTO outrider.version VALUES (%s)", (len(migrations),))
    return before


async def version(connection: AsyncConnection[TupleRow]) -> int:
    """The version of the schema; 0 for an empty database."""
    row = await (await connection.execute("SELECT max(version) FROM outrider.version")).fetchone()
    return 0 if row is None or row[0] is None else int(row[0])
