-- Put messages aside until they are due; the acknowledgement decides, so a repeated call changes nothing, and only who has a message in
-- hand may put it back: another may be sending it by now.
-- KEYS: outbox stream, attempt marks (hash), retries (sorted set).
-- ARGV: group; then per message: entry id, who has it in hand ('': anybody), due time (seconds),
-- "<length of the packed attempts>:<these><message>".
-- Returns 1 or 0 per message.
local put_back = {}
for i = 2, #ARGV, 4 do
  local entry, holder = ARGV[i], ARGV[i + 1]
  local held = holder == '' or #redis.call('XPENDING', KEYS[1], ARGV[1], entry, entry, 1, holder) == 1
  local first = held and redis.call('XACK', KEYS[1], ARGV[1], entry) or 0
  if first == 1 then
    redis.call('XDEL', KEYS[1], entry)
    redis.call('HDEL', KEYS[2], entry)
    redis.call('ZADD', KEYS[3], ARGV[i + 2], ARGV[i + 3])
  end
  put_back[#put_back + 1] = first
end
return put_back
