-- Forget what a user still had to be sent, in one step: between two a message could pass from one place to the other unseen.
-- KEYS: outbox stream, attempt marks (hash), retries (sorted set). ARGV: group, user id.
-- What cannot be read is forgotten where its bytes hold the id. Returns how many messages there were.
local stream, marks, retries = KEYS[1], KEYS[2], KEYS[3]
local group, user = ARGV[1], ARGV[2]

local function is_of(packed)
  if not string.find(packed, user, 1, true) then return false end
  local readable, message = pcall(cmsgpack.unpack, packed)
  return not readable or type(message) ~= 'table' or message.user_id == nil or message.user_id == user
end

local gone = 0
local AT_ONCE = 1000
local after = '-'
repeat
  local entries = redis.call('XRANGE', stream, after, '+', 'COUNT', AT_ONCE)
  for _, entry in ipairs(entries) do
    local message = ''
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'm' then message = entry[2][i + 1] end
    end
    if is_of(message) then
      redis.call('XACK', stream, group, entry[1]) -- whoever has it in hand finds it settled, and records nothing of it
      redis.call('XDEL', stream, entry[1])
      redis.call('HDEL', marks, entry[1])
      gone = gone + 1
    end
    after = '(' .. entry[1]
  end
until #entries < AT_ONCE

for _, member in ipairs(redis.call('ZRANGE', retries, 0, -1)) do
  local colon = string.find(member, ':', 1, true)
  if is_of(string.sub(member, colon + tonumber(string.sub(member, 1, colon - 1)) + 1)) then
    redis.call('ZREM', retries, member)
    gone = gone + 1
  end
end
return gone
