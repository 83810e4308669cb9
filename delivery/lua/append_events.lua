-- Append events to a shard's feed, each event id once; a claim repeated after a lost reply gets the same answer.
-- KEYS: feed stream, then per event the key of its id. ARGV: per event: seconds its id is remembered, claim, packed row.
-- Returns 1 or 0 per event.
local fresh = {}
for i = 1, #ARGV, 3 do
  local key, claim = KEYS[(i - 1) / 3 + 2], ARGV[i + 1]
  local new = redis.call('SET', key, claim, 'NX', 'EX', ARGV[i])
  if new then redis.call('XADD', KEYS[1], '*', 'm', ARGV[i + 2]) end
  fresh[#fresh + 1] = (new or redis.call('GET', key) == claim) and 1 or 0
end
return fresh
