-- Takes back what a dead instance held: to the take end of the list in its order, or to the dead
-- list when too many instances died while they held it.
-- KEYS 1 leases  2 claimed list of the dead instance  3 its receipts  4 list  5 dead  6 attempts
--      7 crashes  8 counts  9 instances  10 sweeps
-- ARGV 1 dead instance  2 crashes that are too many  3 life of the tombstone (s)
--      then for each element: element, task id or '', envelope for the dead list
-- Returns {number of elements put back, elements killed}, or {-1, {}} when the instance is not dead.

local expiry = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]))
if not expiry or expiry > now or now < tonumber(redis.call('HGET', KEYS[10], 'grace') or 0) then
    return {-1, {}}
end
redis.call('HDEL', KEYS[9], '')

local tasks, envelopes = {}, {}
for index = 4, #ARGV, 3 do
    tasks[ARGV[index]] = ARGV[index + 1]
    envelopes[ARGV[index]] = ARGV[index + 2]
end

-- From the newest to the oldest, so that the oldest ends up where it is taken first.
local returned, killed = 0, {}
for _ = 1, redis.call('LLEN', KEYS[2]) do
    local element = redis.call('LINDEX', KEYS[2], 0)
    local id = redis.sha1hex(element)
    local crashes = redis.call('HINCRBY', KEYS[7], id, 1)
    -- An element that came after the caller looked has no envelope and gets another chance.
    if crashes >= tonumber(ARGV[2]) and envelopes[element] then
        redis.call('LPUSH', KEYS[5], envelopes[element])
        redis.call('LPOP', KEYS[2])
        redis.call('HDEL', KEYS[7], id)
        redis.call('HDEL', KEYS[6], tasks[element])
        killed[#killed + 1] = element
    else
        redis.call('LMOVE', KEYS[2], KEYS[4], 'LEFT', 'RIGHT')
        returned = returned + 1
    end
end

-- Last, so that an error above leaves the lease for the next sweep.
redis.call('HINCRBY', KEYS[8], 'reaped', returned + #killed)
redis.call('HINCRBY', KEYS[8], 'dead', #killed)
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[9], ARGV[1])
redis.call('DEL', KEYS[3])
redis.call('SET', KEYS[2], 'reaped', 'EX', ARGV[3])
return {returned, killed}
