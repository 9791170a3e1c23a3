-- Moves delayed elements that are due to the take end of the list, the earliest to be taken first.
-- KEYS 1 delayed  2 list  3 guards  4 recent  5 counts
-- ARGV 1 most elements to move
-- Returns {elements moved, ms until the next one is due or -1}.

redis.call('HDEL', KEYS[5], '')
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for index = #due, 1, -1 do
    local member = due[index]
    local id, task, element = held_parts(string.sub(member, (string.find(member, ':', 1, true) or 0) + 1))
    redis.call('RPUSH', KEYS[2], id ~= '' and element or member)
    redis.call('ZREM', KEYS[1], member)
    if task ~= '' and redis.call('HGET', KEYS[3], task) == 'delayed/' .. member then
        redis.call('HDEL', KEYS[3], task)
    end
end
if #due > 0 then
    redis.call('HINCRBY', KEYS[5], 'promoted', #due)
end
local following = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #following == 0 then
    return {#due, -1}
end
return {#due, math.max(0, tonumber(following[2]) - now)}
