-- Take messages of one shard: what was abandoned, then retries due (put back into the stream), then new ones.
-- KEYS: outbox stream, attempt marks (hash), retries (sorted set by due time, seconds).
-- ARGV: group, consumer, count, now (seconds), abandoned after (milliseconds).
-- Returns {entry id, message, attempts as packed or '', 1 if an attempt mark stands} per message.
local stream, marks, retries = KEYS[1], KEYS[2], KEYS[3]
local group, consumer, count = ARGV[1], ARGV[2], tonumber(ARGV[3])

for _, member in ipairs(redis.call('ZRANGEBYSCORE', retries, '-inf', ARGV[4], 'LIMIT', 0, count)) do
  local colon = string.find(member, ':', 1, true)
  local ends = colon + tonumber(string.sub(member, 1, colon - 1))
  redis.call('XADD', stream, '*', 'm', string.sub(member, ends + 1), 't', string.sub(member, colon + 1, ends))
  redis.call('ZREM', retries, member)
end

if redis.call('EXISTS', stream) == 0 then return {} end

local claimed = redis.pcall('XAUTOCLAIM', stream, group, consumer, ARGV[5], '0', 'COUNT', count)
if claimed.err then
  redis.call('XGROUP', 'CREATE', stream, group, '0')
  claimed = { '0-0', {} }
end

local taken = {}
local function take(entry)
  local message, tried = '', ''
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'm' then message = fields[i + 1] elseif fields[i] == 't' then tried = fields[i + 1] end
  end
  taken[#taken + 1] = { entry[1], message, tried, 0 }
end

for _, entry in ipairs(claimed[2]) do take(entry) end
if #taken < count then
  local fresh = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count - #taken, 'STREAMS', stream, '>')
  if fresh then
    for _, entry in ipairs(fresh[1][2]) do take(entry) end
  end
end

local AT_ONCE = 1000 -- Lua passes no more than some thousand arguments
for i = 1, #taken, AT_ONCE do
  local ids = {}
  for place = i, math.min(i + AT_ONCE - 1, #taken) do ids[#ids + 1] = taken[place][1] end
  for place, mark in ipairs(redis.call('HMGET', marks, unpack(ids))) do
    taken[i + place - 1][4] = mark and 1 or 0
  end
end
return taken
