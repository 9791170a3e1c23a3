-- A new instance: a name that was never used before, and its lease.
-- KEYS 1 token  2 leases  3 instances
-- ARGV 1 name of the instance on its host  2 random text  3 lease (ms)  4 rest of the JSON about it
-- Returns the instance and its token.

-- A server that is out of memory refuses a script's first command when it may need memory, and
-- lets everything pass after a write that does not: here and in the other scripts such a write
-- comes first.
redis.call('HDEL', KEYS[3], '')
local token = redis.call('INCR', KEYS[1])
local number = string.format('%.0f', token)
local instance = ARGV[1] .. '-' .. number .. '-' .. ARGV[2]
redis.call('ZADD', KEYS[2], now + ARGV[3], instance)
redis.call('HSET', KEYS[3], instance, '{"token":' .. number .. ',' .. ARGV[4])
return {instance, token}
