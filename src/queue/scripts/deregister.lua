-- The end of an instance that runs nothing any more: what it still holds goes back to the take end
-- in its order, nothing counted.
-- KEYS 1 leases  2 claimed list of the instance  3 its receipts  4 list  5 instances  6 counts
-- ARGV 1 instance  2 life of the tombstone (s)
-- Returns the number of elements handed back, or -1 when the lease is gone.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return -1
end
redis.call('HDEL', KEYS[5], '')
local returned = redis.call('LLEN', KEYS[2])
for _ = 1, returned do
    redis.call('LMOVE', KEYS[2], KEYS[4], 'LEFT', 'RIGHT')
end
redis.call('HINCRBY', KEYS[6], 'returned', returned)
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[5], ARGV[1])
redis.call('DEL', KEYS[3])
redis.call('SET', KEYS[2], 'gone', 'EX', ARGV[2])
return returned
