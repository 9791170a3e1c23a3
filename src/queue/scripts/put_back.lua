
-- Everything an instance had, the newest first: back to the take end, unless `kill` says otherwise.
-- KEYS 1 leases  2 claimed list of the instance  3 its running hash  4 list  5 guards
-- `kill(claim, id)` returns true when it has put the element elsewhere.
-- Returns the number of elements that went back to the list.
local function put_back(instance, kill)
    redis.call('HDEL', KEYS[5], '')
    local returned = 0
    -- It may be the tombstone, which holds nothing.
    if redis.call('TYPE', KEYS[2]).ok == 'list' then
        returned = redis.call('LLEN', KEYS[2])
        for _ = 1, returned do
            redis.call('LMOVE', KEYS[2], KEYS[4], 'LEFT', 'RIGHT')
        end
    end
    local claims = redis.call('HKEYS', KEYS[3])
    table.sort(claims, function(a, b) return (tonumber(a) or 0) > (tonumber(b) or 0) end)
    for _, claim in ipairs(claims) do
        local id, task, element = held_parts(redis.call('HGET', KEYS[3], claim))
        if not (kill and kill(claim, id)) then
            redis.call('RPUSH', KEYS[4], element)
            returned = returned + 1
        end
        redis.call('HDEL', KEYS[3], claim)
        if task ~= '' and redis.call('HGET', KEYS[5], task) == instance .. '/' .. claim then
            redis.call('HDEL', KEYS[5], task)
        end
    end
    return returned
end
