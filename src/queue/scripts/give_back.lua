-- What was handed over and cannot be started now goes back to the take end in its order.
-- KEYS 1 leases  2 claimed list of the instance  3 list
-- ARGV 1 instance
-- Returns the number of elements; 0 as well when the lease is gone.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return 0
end
redis.call('ZREM', KEYS[1], '')
local returned = redis.call('LLEN', KEYS[2])
for _ = 1, returned do
    redis.call('LMOVE', KEYS[2], KEYS[3], 'LEFT', 'RIGHT')
end
return returned
