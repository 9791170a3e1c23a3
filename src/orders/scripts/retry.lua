-- Opens tasks of an order again.
-- KEYS 1 order  2 orders
-- ARGV 1 order id  2 … for each task: its field, what stands there, what is to stand there or ''
-- Returns the number of tasks that are open again.

local opened = 0
for at = 2, #ARGV, 3 do
    if redis.call('HGET', KEYS[1], ARGV[at]) == ARGV[at + 1] then
        if ARGV[at + 2] == '' then
            redis.call('HDEL', KEYS[1], ARGV[at])
        else
            redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 2])
        end
        opened = opened + 1
    end
end
if opened > 0 then
    redis.call('HINCRBY', KEYS[1], 'open', opened)
    redis.call('HDEL', KEYS[1], 'ended')
    redis.call('PERSIST', KEYS[1])
    -- Whoever works on it leaves it to others when it finds that it is not at its end.
    redis.call('ZADD', KEYS[2], 'NX', now, ARGV[1])
end
return opened
