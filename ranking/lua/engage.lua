-- Seconds. Count one engagement of a user with an item; the twin of ranking/store.py:engage.
-- KEYS: the item's counts, the set of people who engaged. ARGV: the user's key, at (8 bytes), the epoch (8 bytes) and vector
-- of the user's embedding ("" where there is none), the number of dimensions, the time to live.
local half_lives = {3600, 86400, 604800}
local width = 8 * 7
local dimensions = tonumber(ARGV[5])
local at = struct.unpack('<d', ARGV[2])
local is_new = redis.call('SADD', KEYS[2], ARGV[1])

local row = redis.call('GET', KEYS[1])
local counts, vector
if row then
  counts = {struct.unpack('<ddddddd', row)}
  vector = string.sub(row, width + 1)
else
  counts = {0, 0, 0, 0, 0, at, 0}
  vector = string.rep('\0', 4 * dimensions)
end

local last_at = counts[6]
if last_at ~= last_at then last_at = at end
local newest_at = math.max(at, last_at)
for place, half_life in ipairs(half_lives) do
  counts[place + 2] = counts[place + 2] * 2 ^ (-(newest_at - last_at) / half_life) + is_new * 2 ^ (-(newest_at - at) / half_life)
end
counts[1] = counts[1] + 1
counts[2] = counts[2] + is_new
counts[6] = newest_at

if is_new == 1 and #ARGV[3] == 8 then
  local epoch = struct.unpack('<d', ARGV[3])
  if epoch ~= 0 and (counts[7] == 0 or counts[7] == epoch) then
    local sums = {}
    for place = 1, dimensions do
      local offset = 4 * (place - 1) + 1
      sums[place] = struct.pack('<f', struct.unpack('<f', vector, offset) + struct.unpack('<f', ARGV[4], offset))
    end
    vector, counts[7] = table.concat(sums), epoch
  end
end

redis.call('SET', KEYS[1], struct.pack('<ddddddd', unpack(counts, 1, 7)) .. vector, 'EX', ARGV[6])
redis.call('EXPIRE', KEYS[2], ARGV[6])
return is_new
