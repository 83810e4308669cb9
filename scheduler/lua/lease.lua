-- Takes, extends or gives up one lease. Times are epoch seconds and come from the caller; nothing here expires by itself,
-- so the token outlives its holders. A lease is a hash of token, owner and until.
-- KEYS: the lease. ARGV: 'acquire', owner, now, until | 'renew', owner, now, until, token | 'release', owner, token
-- Returns the token held afterwards, 0 where it is not held.
local token, owner, till = unpack(redis.call('HMGET', KEYS[1], 'token', 'owner', 'until'))
token, till = tonumber(token or 0), tonumber(till or 0)

if ARGV[1] == 'acquire' then
  local mine, running = owner == ARGV[2], till > tonumber(ARGV[3])
  if running and not mine then
    return 0
  end
  token = (running and mine) and token or token + 1
  redis.call('HSET', KEYS[1], 'token', token, 'owner', ARGV[2], 'until', ARGV[4])
  return token
end

if ARGV[1] == 'renew' then
  if owner ~= ARGV[2] or token ~= tonumber(ARGV[5]) or till <= tonumber(ARGV[3]) then
    return 0
  end
  redis.call('HSET', KEYS[1], 'until', ARGV[4])
  return token
end

if owner ~= ARGV[2] or token ~= tonumber(ARGV[3]) then
  return 0
end
redis.call('HSET', KEYS[1], 'owner', '', 'until', 0)
return token
