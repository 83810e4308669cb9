-- Mark entries of one inbox read.
-- KEYS: inbox stream, inbox state (hash). ARGV: entry ids; none = all.
-- Returns how many were unread.
local entries = {}
if #ARGV == 0 then
  entries = redis.call('XRANGE', KEYS[1], '-', '+')
else
  for i = 1, #ARGV do
    local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])
    if #found == 1 then entries[#entries + 1] = found[1] end
  end
end
local marked = 0
for _, entry in ipairs(entries) do
  local field = 'r' .. entry[2][2]
  if redis.call('HGET', KEYS[2], field) ~= entry[1] then
    redis.call('HSET', KEYS[2], field, entry[1])
    marked = marked + 1
  end
end
return marked
