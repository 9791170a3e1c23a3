-- Takes an element that nobody runs off its place, for good.
-- KEYS 1 the list, or delayed  2 dead  3 counts  4 guards  5 records
-- ARGV 1 what stands there: an element, or a member of delayed  2 'waiting' or 'delayed'  3 envelope
--      4 task id  5 id of the element
-- Returns 1, or 0 when it is not there any more.

local removed
if ARGV[2] == 'waiting' then
    removed = redis.call('LREM', KEYS[1], -1, ARGV[1])
else
    removed = redis.call('ZREM', KEYS[1], ARGV[1])
end
if removed == 0 then
    return 0
end
redis.call('LPUSH', KEYS[2], ARGV[3])
redis.call('HINCRBY', KEYS[3], 'dead', 1)
if ARGV[2] == 'delayed' then
    -- It has left the delayed set, which is what this counts.
    redis.call('HINCRBY', KEYS[3], 'promoted', 1)
    redis.call('HDEL', KEYS[5], ARGV[5])
    if redis.call('HGET', KEYS[4], ARGV[4]) == 'delayed/' .. ARGV[1] then
        redis.call('HDEL', KEYS[4], ARGV[4])
    end
end
return 1
