-- Moves delayed elements that are due to the take end of the list, the earliest to be taken first.
-- KEYS 1 delayed  2 list
-- ARGV 1 most elements to move
-- Returns {elements moved, ms until the next one is due or -1}.

redis.call('ZREM', KEYS[1], '')
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for index = #due, 1, -1 do
    local member = due[index]
    redis.call('RPUSH', KEYS[2], string.sub(member, string.find(member, ':', 1, true) + 1))
    redis.call('ZREM', KEYS[1], member)
end
local following = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #following == 0 then
    return {#due, -1}
end
return {#due, math.max(0, tonumber(following[2]) - now)}
