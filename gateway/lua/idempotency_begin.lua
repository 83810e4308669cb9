-- Times are epoch seconds; the TTL only collects garbage.
-- KEYS[1] record: hash of h (body hash), e (expires at), l (lease until), a (answer, once there is one)
-- ARGV: body hash, now, kept_s, lease_s
local now, kept_s = tonumber(ARGV[2]), tonumber(ARGV[3])
local record = redis.call('HMGET', KEYS[1], 'h', 'e', 'l', 'a')
local lease_until = string.format('%.3f', now + tonumber(ARGV[4]))
if not record[1] or tonumber(record[2]) <= now then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'h', ARGV[1], 'e', string.format('%.3f', now + kept_s), 'l', lease_until)
  redis.call('EXPIRE', KEYS[1], math.ceil(kept_s) + 60)
  return {'decide'}
end
if record[1] ~= ARGV[1] then return {'mismatch'} end
if record[4] then return {'answered', record[4]} end
if tonumber(record[3]) > now then return {'wait'} end
redis.call('HSET', KEYS[1], 'l', lease_until)
return {'decide'}
