-- Times are epoch seconds; the TTL only collects garbage.
-- KEYS[1] record; ARGV: body hash, now, kept_s, answer. Returns the answer that was kept first.
local now, kept_s = tonumber(ARGV[2]), tonumber(ARGV[3])
local record = redis.call('HMGET', KEYS[1], 'h', 'e', 'a')
if record[1] == ARGV[1] and tonumber(record[2]) > now and record[3] then return record[3] end
redis.call('HSET', KEYS[1], 'h', ARGV[1], 'e', string.format('%.3f', now + kept_s), 'l', ARGV[2], 'a', ARGV[4])
redis.call('EXPIRE', KEYS[1], math.ceil(kept_s) + 60)
return ARGV[4]
