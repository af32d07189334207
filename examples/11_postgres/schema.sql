-- The event log, checkpoints with their leases, and letters. Run once: psql -f schema.sql
--
-- Positions. A sequence would be given out in one order and become visible in another, and whoever has read 9
-- would never look at 8 again. Here a position is the number of the transaction and a count within it, and a
-- reader stops below the oldest transaction that is still running (pg_snapshot_xmin): nothing can appear below
-- that any more. Writers wait for nobody. What holds readers up is a transaction that writes for a long time.
-- Transaction numbers begin anew in another cluster: after a restore there, set log.xid_base to
-- (SELECT max(position) >> 20 FROM events) before anything is appended.

CREATE TABLE log(
    id bigint NOT NULL DEFAULT (random() * 9e15)::bigint + 1,
    xid_base bigint NOT NULL DEFAULT 0,
    trimmed bigint NOT NULL DEFAULT -1);        -- set it when old events are deleted
INSERT INTO log DEFAULT VALUES;

CREATE TABLE events(
    position bigint PRIMARY KEY,
    aggregate text NOT NULL,
    sequence bigint NOT NULL,
    type text NOT NULL,
    version integer NOT NULL,
    payload text NOT NULL,
    occurred_at bigint NOT NULL,
    UNIQUE(aggregate, sequence));

-- The lowest position that a running transaction may still take.
CREATE FUNCTION log_horizon() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + xid_base) << 20 FROM log
$$;

-- Appends one event. `expected`: how many events the aggregate had when the command was decided; unique_violation
-- (23505) or serialization_failure (40001): somebody was faster, decide again. NOTIFY reaches the workers when,
-- and only if, the transaction commits.
CREATE FUNCTION append_event(of text, expected bigint, type text, version integer, payload text, occurred bigint)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    count bigint := coalesce(nullif(current_setting('log.count', true), ''), '0')::bigint;
    at bigint;
BEGIN
    SELECT ((pg_current_xact_id()::text::bigint + xid_base) << 20) + count INTO at FROM log;
    PERFORM set_config('log.count', (count + 1)::text, true);
    -- A transaction that is older than the aggregate's last event must not append behind it: its position would
    -- be the lower one. (It had written something else before.)
    IF expected > 0 AND NOT EXISTS(SELECT 1 FROM events e WHERE e.aggregate = of AND e.sequence = expected
                                   AND e.position < at) THEN
        RAISE serialization_failure USING MESSAGE = 'the aggregate has moved';
    END IF;
    INSERT INTO events VALUES(at, of, expected + 1, type, version, payload, occurred);
    PERFORM pg_notify('events', '');
    RETURN at;
END $$;

-- A row is checkpoint, lock and fence in one.
CREATE TABLE checkpoints(
    key text PRIMARY KEY,
    position bigint NOT NULL DEFAULT -1,
    revision bigint NOT NULL DEFAULT 0,
    token bigint NOT NULL DEFAULT 0,
    record text,
    lease_until timestamptz NOT NULL DEFAULT '-infinity');

-- PJ409: somebody else has saved, or has the lease by now. An exception, so that a unit of work ends with it.
CREATE FUNCTION save_checkpoint(of text, at bigint, next bigint, by bigint, content text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF next = 1 THEN
        INSERT INTO checkpoints(key, token) VALUES(of, by) ON CONFLICT DO NOTHING;
    END IF;
    UPDATE checkpoints SET position = at, revision = next, token = by, record = content
        WHERE key = of AND revision = next - 1 AND token <= by;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'conflict' USING ERRCODE = 'PJ409';
    END IF;
END $$;

-- The token, or null: somebody has the lease, or is in the middle of a save. By the server's clock alone.
CREATE FUNCTION acquire_lease(of text, ttl_ms bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    granted bigint;
BEGIN
    INSERT INTO checkpoints(key) VALUES(of) ON CONFLICT DO NOTHING;
    UPDATE checkpoints SET token = token + 1, lease_until = clock_timestamp() + ttl_ms * interval '1 ms'
        WHERE key = (SELECT c.key FROM checkpoints c WHERE c.key = of AND c.lease_until <= clock_timestamp()
                     FOR UPDATE SKIP LOCKED)
        RETURNING token INTO granted;
    RETURN granted;
END $$;

CREATE TABLE letters(
    projection text, partition integer, handler text, position bigint, rebuild bigint,
    kind integer NOT NULL, code bigint NOT NULL, attempts integer NOT NULL,
    PRIMARY KEY(projection, partition, handler, position, rebuild));
