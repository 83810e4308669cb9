-- Mark attempts before the provider is called; an entry another courier has taken over, or one marked before, is refused.
-- KEYS: outbox stream, attempt marks (hash). ARGV: group, consumer, now (seconds), entry ids.
-- Returns 1 or 0 per entry.
local granted = {}
for i = 4, #ARGV do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  granted[#granted + 1] = #held == 1 and redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[3]) or 0
end
return granted
