-- Add notifications to users' inboxes: one entry per entity, the highest version, the oldest entries leaving first.
-- KEYS: per notification its user's inbox stream and inbox state. The state (hash) holds per entity "<entry id> <version>",
-- and under "r<entity>" the entry id that was read. ARGV: capacity, channel that rings; then per notification: user,
-- entity, version, packed entry.
-- Adding the same notification again changes nothing.
local capacity = tonumber(ARGV[1])

local function forget_oldest(stream, state)
  local excess = redis.call('XLEN', stream) - capacity
  if excess <= 0 then return end
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', excess)) do
    redis.call('HDEL', state, entry[2][2], 'r' .. entry[2][2])
    redis.call('XDEL', stream, entry[1])
  end
end

local added = 0
for i = 3, #ARGV, 4 do
  local place = (i - 3) / 2
  local stream, state = KEYS[place + 1], KEYS[place + 2]
  local user, entity, version = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local kept = redis.call('HGET', state, entity)
  local old_id, old_version
  if kept then
    old_id, old_version = string.match(kept, '^(%S+) (%d+)$')
  end
  if not kept or tonumber(old_version) < version then
    if kept then redis.call('XDEL', stream, old_id) end
    local id = redis.call('XADD', stream, '*', 'e', entity, 'm', ARGV[i + 3])
    redis.call('HSET', state, entity, id .. ' ' .. ARGV[i + 2])
    forget_oldest(stream, state)
    redis.call('PUBLISH', ARGV[2], user)
    added = added + 1
  end
end
return added
