-- Renews a lease and names the instances whose lease has run out.
-- KEYS 1 leases  2 claimed list of the instance  3 sweeps  4 paused  5 running hash of the instance
--      6 cancelled  7 delayed  8 untold  9 notices  10 recent  11 rq:suspended, where RQ's pause is ours too
-- ARGV 1 instance  2 lease (ms)  3 longest silence between two renewals of a healthy fleet (ms)
--      4 grace (ms)  5 its name for `paused`
-- Returns {elements claimed, paused (0 or 1), {expired instances}, {claims that run}, {cancelled
-- tasks}}, or {-1, 0, {}, {}, {}} when the lease is gone.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return {-1, 0, {}, {}, {}}
end
redis.call('HDEL', KEYS[3], '')

-- When nobody renewed for long it was the server that was away, not the instances: they get the
-- time to come back before anybody takes their jobs.
local last = tonumber(redis.call('HGET', KEYS[3], 'last'))
local back = last and last - now or 0
if back > 1000 then
    -- The clock has gone back. What waits for a time of the clock as it was would wait longer by that much.
    for _, key in ipairs({KEYS[1], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]}) do
        local waiting = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
        for index = 1, #waiting, 2 do
            redis.call('ZADD', key, 'XX', waiting[index + 1] - back, waiting[index])
        end
    end
    redis.call('HINCRBYFLOAT', KEYS[3], 'grace', -back)
end
if not last or now - last > tonumber(ARGV[3]) then
    redis.call('HSET', KEYS[3], 'grace', now + ARGV[4])
end
redis.call('HSET', KEYS[3], 'last', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])

local expired = {}
if now >= tonumber(redis.call('HGET', KEYS[3], 'grace') or 0) then
    expired = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 16)
end
local paused = redis.call('HMGET', KEYS[4], '*', ARGV[5])
local suspended = KEYS[11] and redis.call('EXISTS', KEYS[11]) == 1
local is_paused = (paused[1] or paused[2] or suspended) and 1 or 0
redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now)
local cancelled = redis.call('ZRANGE', KEYS[6], 0, -1)
return {redis.call('LLEN', KEYS[2]), is_paused, expired, redis.call('HKEYS', KEYS[5]), cancelled}
