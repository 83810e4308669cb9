-- Takes, extends or gives up one lease. Times are epoch seconds and come from the caller; nothing here expires by itself,
-- so the token outlives its holders. A lease is a hash of token, owner, until, and at: when it was last taken or extended.
-- Where the clock was set back since, nobody can tell how long its holder has been silent: it is free, and the fence keeps the old holder out.
-- KEYS: the lease. ARGV: 'acquire', owner, now, until | 'renew', owner, now, until, token | 'release', owner, token
-- Returns the token held afterwards, 0 where it is not held.
local token, owner, till, at = unpack(redis.call('HMGET', KEYS[1], 'token', 'owner', 'until', 'at'))
token, till, at = tonumber(token or 0), tonumber(till or 0), tonumber(at or 0)

if ARGV[1] == 'acquire' then
  local now = tonumber(ARGV[3])
  local mine, running = owner == ARGV[2], till > now
  if running and not mine and at <= now + 1 then -- two who ask at once may arrive in the other order
    return 0
  end
  token = (running and mine) and token or token + 1
  redis.call('HSET', KEYS[1], 'token', token, 'owner', ARGV[2], 'until', ARGV[4], 'at', ARGV[3])
  return token
end

if ARGV[1] == 'renew' then
  if owner ~= ARGV[2] or token ~= tonumber(ARGV[5]) or till <= tonumber(ARGV[3]) then
    return 0
  end
  redis.call('HSET', KEYS[1], 'until', ARGV[4], 'at', ARGV[3])
  return token
end

if owner ~= ARGV[2] or token ~= tonumber(ARGV[3]) then
  return 0
end
redis.call('HSET', KEYS[1], 'owner', '', 'until', 0)
return token
