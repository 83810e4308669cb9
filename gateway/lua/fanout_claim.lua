-- Times are epoch seconds.
-- KEYS[1] leases: sorted set of decision ids by lease until; KEYS[2] hash of owners; KEYS[3] hash of jobs
-- ARGV: worker, now, lease_s. Returns the job that has been free for longest, or false.
local free = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, 1)
if not free[1] then return false end
redis.call('ZADD', KEYS[1], string.format('%.3f', tonumber(ARGV[2]) + tonumber(ARGV[3])), free[1])
redis.call('HSET', KEYS[2], free[1], ARGV[1])
return redis.call('HGET', KEYS[3], free[1])
