CREATE STREAM flights (
    departure TIMESTAMP(3),
    carrier STRING,
    flight BIGINT,
    origin STRING,
    dest STRING,
    dep_delay BIGINT,
    distance BIGINT,
    WATERMARK FOR departure AS departure - INTERVAL '1' MINUTE
) WITH (topic = 'flights', format = 'json')
