-- Put messages aside until they are due; the acknowledgement decides, so a repeated call changes nothing.
-- KEYS: outbox stream, attempt marks (hash), retries (sorted set).
-- ARGV: group; then per message: entry id, due time (seconds), "<length of the packed attempts>:<these><message>".
-- Returns 1 or 0 per message.
local put_back = {}
for i = 2, #ARGV, 3 do
  local first = redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  if first == 1 then
    redis.call('XDEL', KEYS[1], ARGV[i])
    redis.call('HDEL', KEYS[2], ARGV[i])
    redis.call('ZADD', KEYS[3], ARGV[i + 1], ARGV[i + 2])
  end
  put_back[#put_back + 1] = first
end
return put_back
