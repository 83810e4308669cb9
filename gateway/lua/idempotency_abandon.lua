-- KEYS[1] record; ARGV: body hash.
if redis.call('HGET', KEYS[1], 'h') == ARGV[1] then redis.call('HSET', KEYS[1], 'l', '0') end
