-- Times are epoch seconds.
-- KEYS[1] leases, KEYS[2] owners, KEYS[3] jobs; ARGV: decision id, job, now. A job that is kept stays as it is.
if redis.call('HSETNX', KEYS[3], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], '')
return 1
