
-- The end of an instance, and of its name.
-- KEYS and `kill` as for `put_back`  6 counts  7 instances
-- Returns the number of elements that went back to the list.
local function release(instance, why, tombstone, tombstone_seconds, kill)
    local returned = put_back(instance, kill)
    -- Last, so that an error above leaves the lease for the next sweep.
    redis.call('HINCRBY', KEYS[6], why, returned)
    redis.call('ZREM', KEYS[1], instance)
    redis.call('HDEL', KEYS[7], instance)
    redis.call('SET', KEYS[2], tombstone, 'EX', tombstone_seconds)
    return returned
end
