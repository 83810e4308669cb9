-- Append events to a shard's feed, each event id once; a claim repeated after a lost reply gets the same answer.
-- KEYS: feed stream, then per event the key of its id. ARGV: seconds an id is remembered; then per event: claim, packed row.
-- Returns 1 or 0 per event.
local fresh = {}
for i = 2, #ARGV, 2 do
  local key = KEYS[i / 2 + 1]
  local new = redis.call('SET', key, ARGV[i], 'NX', 'EX', ARGV[1])
  if new then redis.call('XADD', KEYS[1], '*', 'm', ARGV[i + 1]) end
  fresh[#fresh + 1] = (new or redis.call('GET', key) == ARGV[i]) and 1 or 0
end
return fresh
