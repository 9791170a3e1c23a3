-- Adds to the story of a task.
-- KEYS 1 stories  2 story of the task
-- ARGV 1 task id  2 most lines of a story  3 how long it is kept (s)  4 most stories  5 … lines, the oldest first
-- Returns the tasks whose stories are too many: the caller deletes them.

local kept = tonumber(ARGV[3])
for index = 5, #ARGV do
    redis.call('RPUSH', KEYS[2], ARGV[index])
end
redis.call('LTRIM', KEYS[2], -ARGV[2], -1)
redis.call('EXPIRE', KEYS[2], kept)

redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - kept * 1000)
redis.call('EXPIRE', KEYS[1], kept)
local surplus = redis.call('ZRANGE', KEYS[1], 0, -1 - ARGV[4])
for _, task in ipairs(surplus) do
    redis.call('ZREM', KEYS[1], task)
end
return surplus
