-- Takes up an order that nobody works on.
-- KEYS 1 orders  2 order
-- ARGV 1 order id  2 worker  3 claim (ms)
-- Returns 1, or 0 when somebody was quicker.

local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not due or tonumber(due) > now then
    return 0
end
if redis.call('EXISTS', KEYS[2]) == 0 then
    -- Removed by hand.
    redis.call('ZREM', KEYS[1], ARGV[1])
    return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[2], 'worker', ARGV[2])
return 1
