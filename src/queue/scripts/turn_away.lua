-- A claimed element that is not started: to the dead list, or back to an end of the list.
-- KEYS 1 leases  2 claimed list of the instance  3 list  4 dead  5 counts
-- ARGV 1 instance  2 element  3 dead | returned | left (where an RQ worker takes next)  4 envelope or ''
--      then commands that follow when it is done now
-- Returns the length of the list; -1 when the lease is gone, -2 when the element is not claimed:
-- an earlier call whose answer was lost.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return -1
end
if redis.call('LREM', KEYS[2], -1, ARGV[2]) == 0 then
    return -2
end
local written
if ARGV[3] == 'dead' then
    written = redis.pcall('LPUSH', KEYS[4], ARGV[4])
elseif ARGV[3] == 'returned' then
    written = redis.pcall('RPUSH', KEYS[3], ARGV[2])
else
    written = redis.pcall('LPUSH', KEYS[3], ARGV[2])
end
if type(written) == 'table' and written.err then
    -- The place is not what it should be (a key of another type): the element stays claimed.
    redis.call('RPUSH', KEYS[2], ARGV[2])
    return written
end
if ARGV[3] == 'dead' then
    redis.call('HINCRBY', KEYS[5], 'dead', 1)
end
also(5)
return redis.call('LLEN', KEYS[3])
