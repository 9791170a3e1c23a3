-- Goes on with an order, or leaves it to anybody.
-- KEYS 1 orders  2 order
-- ARGV 1 order id  2 worker  3 claim (ms) from now on; 0 leaves it
-- Returns 1, or 0 when it is not the worker's any more.

if redis.call('HGET', KEYS[2], 'worker') ~= ARGV[2] then
    return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
if ARGV[3] == '0' then
    redis.call('HDEL', KEYS[2], 'worker')
end
return 1
