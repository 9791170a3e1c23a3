-- Takes one entry off the dead list: back to the queue, or away.
-- KEYS 1 dead  2 list  3 records  4 guards  5 recent  6 counts
-- ARGV 1 entry  2 revived | purged  3 element  4 id  5 record or ''
--      6 task id whose guard is lifted, or ''
-- Returns 1, or 0 when the entry is not there any more.

if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then
    return 0
end
if ARGV[2] == 'revived' then
    local written = redis.pcall('LPUSH', KEYS[2], ARGV[3])
    if type(written) == 'table' and written.err then
        -- The list is not what it should be (a key of another type): nothing has happened.
        redis.call('RPUSH', KEYS[1], ARGV[1])
        return written
    end
    if ARGV[5] ~= '' then
        redis.call('HSET', KEYS[3], ARGV[4], ARGV[5])
    end
    if ARGV[6] ~= '' then
        redis.call('HDEL', KEYS[4], ARGV[6])
        redis.call('ZREM', KEYS[5], ARGV[6])
    end
end
redis.call('HINCRBY', KEYS[6], ARGV[2], 1)
return 1
