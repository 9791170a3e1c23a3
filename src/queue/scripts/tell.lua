-- Hands over one delivered job whose finalize call is due, beside the list: from here on it runs.
-- KEYS 1 leases  2 untold  3 running hash of the instance  4 records  5 guards  6 counts
-- ARGV 1 instance  2 claim
-- Returns {1, what the running hash holds, its record or ''}, {0, ms until the next one is due or -1, ''}, or
-- {-1, '', ''} when the lease is gone.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return {-1, '', ''}
end
local held = redis.call('HGET', KEYS[3], ARGV[2])
if not held then
    local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
    if #first == 0 then
        return {0, -1, ''}
    end
    local member, wait = first[1], tonumber(first[2]) - now
    if wait > 0 then
        return {0, wait, ''}
    end
    redis.call('ZREM', KEYS[2], member)
    held = string.sub(member, (string.find(member, ':', 1, true) or 0) + 1)
    redis.call('HSET', KEYS[3], ARGV[2], held)
    local _, task = held_parts(held)
    if task ~= '' and redis.call('HGET', KEYS[5], task) == 'untold/' .. member then
        redis.call('HSET', KEYS[5], task, ARGV[1] .. '/' .. ARGV[2])
    end
    redis.call('HINCRBY', KEYS[6], 'told', 1)
end
-- Else an earlier call whose answer was lost.
local id = held_parts(held)
return {1, held, redis.call('HGET', KEYS[4], id) or ''}
