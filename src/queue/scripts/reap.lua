-- Takes back what a dead instance had: to the take end of the list in its order, or to the dead
-- list when too many instances died while they ran it.
-- KEYS as for `release`  8 dead  9 records  10 sweeps
-- ARGV 1 dead instance  2 life of the tombstone (s)  3 number of jobs that were seen, then for each:
--      claim, record, envelope for the dead list or ''
--      then commands that follow
-- Returns {number of elements put back, claims that were killed}, or {-1, {}} when the instance is
-- not dead.

local expiry = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]))
if not expiry or expiry > now or now < tonumber(redis.call('HGET', KEYS[10], 'grace') or 0) then
    return {-1, {}}
end
redis.call('HDEL', KEYS[7], '')

local records, envelopes = {}, {}
local number = tonumber(ARGV[3])
for index = 0, number - 1 do
    local claim = ARGV[4 + index * 3]
    records[claim] = ARGV[5 + index * 3]
    envelopes[claim] = ARGV[6 + index * 3]
end
local killed = {}
local returned = release(ARGV[1], 'reaped', 'reaped', ARGV[2], function(claim, id)
    -- A job that was started after the caller looked has neither: it goes back uncounted.
    local envelope = envelopes[claim]
    if envelope and envelope ~= '' then
        redis.call('LPUSH', KEYS[8], envelope)
        redis.call('HDEL', KEYS[9], id)
        redis.call('HINCRBY', KEYS[6], 'dead', 1)
        killed[#killed + 1] = claim
        return true
    end
    if records[claim] then
        redis.call('HSET', KEYS[9], id, records[claim])
    end
    return false
end)
also(4 + number * 3)
return {returned, killed}
