-- Record how messages ended and forget them; the acknowledgement decides, so the first outcome of a message stands, and only who
-- has a message in hand may end it: another may be sending it by now.
-- KEYS: outbox stream, attempt marks (hash), outcomes stream, dead letters stream, counters (hash).
-- ARGV: group, outcomes kept, dead letters kept; then per message: entry id, who has it in hand ('': anybody), outcome, the
-- counter it raises, the message if it is dead (else ''), the facts of the dead letter.
-- Returns 1 or 0 per message.
local AT_ONCE = 1000 -- Lua passes no more than some thousand arguments
local settled, gone, counted = {}, {}, {}
for i = 4, #ARGV, 6 do
  local entry, holder = ARGV[i], ARGV[i + 1]
  local held = holder == '' or #redis.call('XPENDING', KEYS[1], ARGV[1], entry, entry, 1, holder) == 1
  local first = held and redis.call('XACK', KEYS[1], ARGV[1], entry) or 0
  if first == 1 then
    gone[#gone + 1] = entry
    counted[ARGV[i + 3]] = (counted[ARGV[i + 3]] or 0) + 1
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'o', ARGV[i + 2])
    if ARGV[i + 4] ~= '' then
      redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[3], '*', 'm', ARGV[i + 4], 'f', ARGV[i + 5])
    end
  end
  settled[#settled + 1] = first
end
for i = 1, #gone, AT_ONCE do
  local last = math.min(i + AT_ONCE - 1, #gone)
  redis.call('XDEL', KEYS[1], unpack(gone, i, last))
  redis.call('HDEL', KEYS[2], unpack(gone, i, last))
end
for counter, count in pairs(counted) do redis.call('HINCRBY', KEYS[5], counter, count) end
return settled
