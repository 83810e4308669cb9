-- Replace an item's vector where still as many people have engaged as it was summed over; returns 1 if so, else 0.
-- KEYS: the item's counts, the set of people who engaged. ARGV: the number of people, the epoch (8 bytes), the vector.
local row = redis.call('GET', KEYS[1])
if redis.call('SCARD', KEYS[2]) ~= tonumber(ARGV[1]) then return 0 end
if row and tonumber(ARGV[1]) > 0 then
  redis.call('SET', KEYS[1], string.sub(row, 1, 48) .. ARGV[2] .. ARGV[3], 'KEEPTTL')
end
return 1
