-- Times are epoch seconds.
-- KEYS[1] leases, KEYS[2] owners; ARGV: decision id, worker, until. Returns 1 where the lease is still the worker's.
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
