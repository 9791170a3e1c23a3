-- Settles one claimed element, if its instance still has its lease.
-- KEYS 1 leases  2 claimed list of the instance  3 receipts of the instance  4 list  5 delayed
--      6 dead  7 attempts  8 crashes  9 counts
-- ARGV 1 instance  2 element  3 claim  4 claim whose receipt is no longer needed, or ''
--      5 task id, or ''  6 done | retry | dead | returned  7 delay (ms) or envelope
-- Returns 1 settled now, 2 settled by an earlier call whose answer was lost, 0 not in the claimed
-- list, -1 the lease is gone.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return -1
end
if redis.call('HEXISTS', KEYS[3], ARGV[3]) == 1 then
    return 2
end
if redis.call('LREM', KEYS[2], -1, ARGV[2]) == 0 then
    return 0
end

local outcome = ARGV[6]
local written = 1
if outcome == 'retry' then
    written = redis.pcall('ZADD', KEYS[5], now + ARGV[7], ARGV[3] .. ':' .. ARGV[2])
elseif outcome == 'dead' then
    written = redis.pcall('LPUSH', KEYS[6], ARGV[7])
elseif outcome == 'returned' then
    written = redis.pcall('RPUSH', KEYS[4], ARGV[2])
end
if type(written) == 'table' and written.err then
    -- The place is not what it should be (a key of another type): the element stays claimed.
    redis.call('RPUSH', KEYS[2], ARGV[2])
    return written
end

if outcome == 'done' or outcome == 'dead' then
    redis.call('HDEL', KEYS[8], redis.sha1hex(ARGV[2]))
    redis.call('HDEL', KEYS[7], ARGV[5])
elseif outcome == 'retry' then
    redis.call('HINCRBY', KEYS[7], ARGV[5], 1)
end
redis.call('HINCRBY', KEYS[9], outcome, 1)
redis.call('HDEL', KEYS[3], ARGV[4])
redis.call('HSET', KEYS[3], ARGV[3], 1)
return 1
