-- Write a stream anew without some of its entries, in one step. XDEL only marks entries: their bytes stay beside their
-- neighbours', in memory, in dumps and in a rewritten append-only file.
-- KEYS: the stream, a free name with the same hash tag. ARGV: ids of the entries to leave out.
-- Returns how many were left out.
local stream, anew = KEYS[1], KEYS[2]
if redis.call('EXISTS', stream) == 0 then return 0 end
redis.call('DEL', anew)

local function fields_of(flat)
  local fields = {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

local without = {}
for _, id in ipairs(ARGV) do without[id] = true end
local left_out, kept = 0, 0
for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+')) do
  if without[entry[1]] then
    left_out = left_out + 1
  else
    redis.call('XADD', anew, entry[1], unpack(entry[2]))
    kept = kept + 1
  end
end

local groups = redis.call('XINFO', 'GROUPS', stream)
if kept == 0 and #groups == 0 then
  redis.call('DEL', stream)
  return left_out
end
for _, flat in ipairs(groups) do
  local group = fields_of(flat)
  redis.call('XGROUP', 'CREATE', anew, group['name'], group['last-delivered-id'], 'MKSTREAM')
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group['name'])) do
    redis.call('XGROUP', 'CREATECONSUMER', anew, group['name'], fields_of(consumer)['name'])
  end
  if group['pending'] > 0 then
    for _, row in ipairs(redis.call('XPENDING', stream, group['name'], '-', '+', group['pending'])) do
      redis.call('XCLAIM', anew, group['name'], row[2], 0, row[1], 'IDLE', row[3], 'RETRYCOUNT', row[4], 'FORCE', 'JUSTID')
    end
  end
end
redis.call('XSETID', anew, fields_of(redis.call('XINFO', 'STREAM', stream))['last-generated-id'])
redis.call('RENAME', anew, stream)
return left_out
