-- Times are epoch seconds.
-- KEYS[1] leases, KEYS[2] owners; ARGV: decision id, worker, now, lease_s. Returns 1 where the lease is still the worker's.
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('ZADD', KEYS[1], string.format('%.3f', tonumber(ARGV[3]) + tonumber(ARGV[4])), ARGV[1])
return 1
