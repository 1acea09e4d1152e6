CREATE MATERIALIZED STREAM long_delays AS
SELECT departure, carrier, flight, origin, dest, dep_delay
FROM flights
WHERE dep_delay >= 240
