-- Record how messages ended and forget them; the acknowledgement decides, so the first outcome of a message stands.
-- KEYS: outbox stream, attempt marks (hash), outcomes stream, dead letters stream, counters (hash).
-- ARGV: group, outcomes kept, dead letters kept; then per message: entry id, outcome, the counter it raises, the message if it
-- is dead (else ''), the facts of the dead letter.
-- Returns 1 or 0 per message.
local settled = {}
for i = 4, #ARGV, 5 do
  local entry = ARGV[i]
  local first = redis.call('XACK', KEYS[1], ARGV[1], entry)
  if first == 1 then
    redis.call('XDEL', KEYS[1], entry)
    redis.call('HDEL', KEYS[2], entry)
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'o', ARGV[i + 1])
    redis.call('HINCRBY', KEYS[5], ARGV[i + 2], 1)
    if ARGV[i + 3] ~= '' then
      redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[3], '*', 'm', ARGV[i + 3], 'f', ARGV[i + 4])
    end
  end
  settled[#settled + 1] = first
end
return settled
