-- Spend a key's critical quota of a day: the day is a set of uses, so its size is what is spent and a repeat changes nothing.
-- KEYS[1] today's uses  KEYS[2] yesterday's
-- ARGV: limit, kept_s (of the TTL, which only collects garbage), then a use of 8 bytes each
-- Returns a byte per use: "1" paid for by this call, "0" paid for before, "-" refused.
local limit, left = tonumber(ARGV[1]), {}
local spent = redis.call('SCARD', KEYS[1])
for place = 3, #ARGV do
  local use = ARGV[place]
  if redis.call('SISMEMBER', KEYS[1], use) == 1 or redis.call('SISMEMBER', KEYS[2], use) == 1 then
    left[#left + 1] = '0'
  elseif spent < limit then
    redis.call('SADD', KEYS[1], use)
    spent = spent + 1
    left[#left + 1] = '1'
  else
    left[#left + 1] = '-'
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return table.concat(left)
