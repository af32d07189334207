-- What the order service keeps besides its log: run it after schema.sql.
CREATE TABLE aggregates(id text PRIMARY KEY, sequence bigint NOT NULL, state text NOT NULL);
CREATE TABLE order_summary(
    id text PRIMARY KEY,
    customer text NOT NULL,
    cents bigint NOT NULL CHECK (cents < 1000000),      -- larger ones are not for this shop
    currency text NOT NULL,
    status text NOT NULL,
    parcel text NOT NULL);
-- By partition: partitions neither wait for each other's rows nor lock them in different orders.
CREATE TABLE revenue(
    day text, currency text, partition integer,
    payments bigint NOT NULL, cents bigint NOT NULL,
    PRIMARY KEY(day, currency, partition));
