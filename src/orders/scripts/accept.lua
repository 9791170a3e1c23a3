-- Takes an order in, once.
-- KEYS 1 order  2 orders  3 the caller's idempotency key, if it sent one
-- ARGV 1 order id  2 body  3 digest  4 number of tasks  5 worker that has it at once, or ''
--      6 claim (ms)  7 how long the idempotency key is known (s)
-- Returns 'new', 'known' (the same order came before), 'key_conflict' (the key came before, with
-- another order), 'order_conflict' (the order id came before, with other tasks).

local name = ARGV[1] .. ' ' .. ARGV[3]
local keyed = KEYS[3] and redis.call('GET', KEYS[3])
if keyed and keyed ~= name then
    return 'key_conflict'
end
local digest = redis.call('HGET', KEYS[1], 'digest')
if digest and digest ~= ARGV[3] then
    return 'order_conflict'
end
if KEYS[3] and not keyed then
    redis.call('SET', KEYS[3], name, 'EX', ARGV[7])
end
if digest then
    return 'known'
end
redis.call('HSET', KEYS[1], 'body', ARGV[2], 'digest', ARGV[3], 'open', ARGV[4], 'created', now)
if ARGV[5] == '' then
    redis.call('ZADD', KEYS[2], now, ARGV[1])
else
    redis.call('HSET', KEYS[1], 'worker', ARGV[5])
    redis.call('ZADD', KEYS[2], now + ARGV[6], ARGV[1])
end
return 'new'
