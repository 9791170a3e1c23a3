-- A step of one task: notes it and, with it, pushes the element.
-- KEYS 1 order  2 orders  3 list
-- ARGV 1 order id  2 worker  3 field of the task  4 what stands there, or ''  5 what is to stand there
--      6 'ended' when it was the task's last step, or ''  7 element to be pushed, or ''
--      8 how long an order that has ended is kept (s)
-- Returns the length of the list after the push, or 0; -1 when the order is not the worker's any
-- more, -2 when the step has been made before.

if redis.call('HGET', KEYS[1], 'worker') ~= ARGV[2] then
    return -1
end
if (redis.call('HGET', KEYS[1], ARGV[3]) or '') ~= ARGV[4] then
    return -2
end
local length = 0
if ARGV[7] ~= '' then
    length = redis.call('LPUSH', KEYS[3], ARGV[7])
end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[5])
if ARGV[6] == 'ended' and redis.call('HINCRBY', KEYS[1], 'open', -1) <= 0 then
    redis.call('ZREM', KEYS[2], ARGV[1])
    redis.call('HDEL', KEYS[1], 'worker')
    redis.call('HSET', KEYS[1], 'ended', now)
    redis.call('EXPIRE', KEYS[1], ARGV[8])
end
return length
