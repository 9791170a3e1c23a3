-- Adds to the story of a task.
-- KEYS 1 stories  2 story of the task  3 failures
-- ARGV 1 task id  2 most lines of a story  3 how long it is kept (s)  4 most stories  5 most failures
--      6 number of lines, then the lines, the oldest first
--      then those of them that are failures, with their task
-- Returns the tasks whose stories are too many: the caller deletes them.

local kept, lines = tonumber(ARGV[3]), tonumber(ARGV[6])
for index = 7, 6 + lines do
    redis.call('RPUSH', KEYS[2], ARGV[index])
end
redis.call('LTRIM', KEYS[2], -ARGV[2], -1)
redis.call('EXPIRE', KEYS[2], kept)
for index = 7 + lines, #ARGV do
    redis.call('LPUSH', KEYS[3], ARGV[index])
end
redis.call('LTRIM', KEYS[3], 0, ARGV[5] - 1)
redis.call('EXPIRE', KEYS[3], kept)

redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - kept * 1000)
redis.call('EXPIRE', KEYS[1], kept)
local surplus = redis.call('ZRANGE', KEYS[1], 0, -1 - ARGV[4])
for _, task in ipairs(surplus) do
    redis.call('ZREM', KEYS[1], task)
end
return surplus
