CREATE MATERIALIZED STREAM departures_by_hour AS
SELECT window_start, carrier, COUNT(*) AS flights, COUNT(dep_delay) AS departed, SUM(dep_delay) AS delay_minutes
FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(departure), INTERVAL '1' HOUR))
GROUP BY window_start, window_end, carrier
