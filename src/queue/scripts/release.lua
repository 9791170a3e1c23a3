
-- Everything an instance had, the newest first: back to the take end, unless `keep` says otherwise.
-- KEYS 1 leases  2 claimed list of the instance  3 its running hash  4 list  5 guards  6 counts
--      7 instances
-- `kill(claim, id)` returns true when it has put the element elsewhere.
-- Returns the number of elements that went back to the list.
local function release(instance, why, tombstone, tombstone_seconds, kill)
    redis.call('HDEL', KEYS[7], '')
    local returned = redis.call('LLEN', KEYS[2])
    for _ = 1, returned do
        redis.call('LMOVE', KEYS[2], KEYS[4], 'LEFT', 'RIGHT')
    end
    local claims = redis.call('HKEYS', KEYS[3])
    table.sort(claims, function(a, b) return tonumber(a) > tonumber(b) end)
    for _, claim in ipairs(claims) do
        local held = redis.call('HGET', KEYS[3], claim)
        local id, task, element = held_parts(held)
        if not kill(claim, id) then
            redis.call('RPUSH', KEYS[4], element)
            returned = returned + 1
        end
        redis.call('HDEL', KEYS[3], claim)
        if task ~= '' and redis.call('HGET', KEYS[5], task) == instance .. '/' .. claim then
            redis.call('HDEL', KEYS[5], task)
        end
    end
    -- Last, so that an error above leaves the lease for the next sweep.
    redis.call('HINCRBY', KEYS[6], why, returned)
    redis.call('ZREM', KEYS[1], instance)
    redis.call('HDEL', KEYS[7], instance)
    redis.call('SET', KEYS[2], tombstone, 'EX', tombstone_seconds)
    return returned
end
