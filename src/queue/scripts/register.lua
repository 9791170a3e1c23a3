-- A new instance: a name that was never used before, and its lease.
-- KEYS 1 token  2 leases  3 instances
-- ARGV 1 name of the instance on its host  2 random text  3 lease (ms)  4 rest of the JSON about it
-- Returns the instance and its token.

-- As in take.lua: first a write that needs no memory.
redis.call('HDEL', KEYS[3], '')
local token = redis.call('INCR', KEYS[1])
local number = string.format('%.0f', token)
local instance = ARGV[1] .. '-' .. number .. '-' .. ARGV[2]
redis.call('ZADD', KEYS[2], now + ARGV[3], instance)
redis.call('HSET', KEYS[3], instance, '{"token":' .. number .. ',' .. ARGV[4])
return {instance, token}
