-- Elements in the place of an instance without a lease go back to the take end in their order.
-- KEYS 1 leases  2 claimed list of the instance  3 its running hash  4 list  5 guards
-- ARGV 1 instance
-- Returns the number of elements.

if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return 0
end
redis.call('HDEL', KEYS[5], '')
local adopted = 0
-- It may be the tombstone, which holds nothing.
if redis.call('TYPE', KEYS[2]).ok == 'list' then
    adopted = redis.call('LLEN', KEYS[2])
    for _ = 1, adopted do
        redis.call('LMOVE', KEYS[2], KEYS[4], 'LEFT', 'RIGHT')
    end
end
local claims = redis.call('HKEYS', KEYS[3])
table.sort(claims, function(a, b) return (tonumber(a) or 0) > (tonumber(b) or 0) end)
for _, claim in ipairs(claims) do
    local _, task, element = held_parts(redis.call('HGET', KEYS[3], claim))
    redis.call('RPUSH', KEYS[4], element)
    redis.call('HDEL', KEYS[3], claim)
    if task ~= '' and redis.call('HGET', KEYS[5], task) == ARGV[1] .. '/' .. claim then
        redis.call('HDEL', KEYS[5], task)
    end
end
return adopted + #claims
