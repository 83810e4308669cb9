-- Move dead letters back into the outbox.
-- KEYS: outbox stream, dead letters stream. ARGV: letter ids.
-- Returns 1 or 0 per letter.
local replayed = {}
for i = 1, #ARGV do
  local found = redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])
  if #found == 1 then
    redis.call('XADD', KEYS[1], '*', 'm', found[1][2][2])
    redis.call('XDEL', KEYS[2], ARGV[i])
  end
  replayed[#replayed + 1] = #found
end
return replayed
