-- Makes the counts say what the places hold, after somebody has added or removed by hand.
-- KEYS 1 counts  2 delayed  3 dead  4 untold
-- Returns 1 when something was changed.

local function count(name)
    return tonumber(redis.call('HGET', KEYS[1], name) or 0)
end
local changed = 0
local delayed = count('retry') - count('promoted') - redis.call('ZCARD', KEYS[2])
if delayed ~= 0 then
    redis.call('HINCRBY', KEYS[1], 'promoted', delayed)
    changed = 1
end
local untold = count('untold') - count('told') - redis.call('ZCARD', KEYS[4])
if untold ~= 0 then
    redis.call('HINCRBY', KEYS[1], 'told', untold)
    changed = 1
end
local dead = count('dead') - count('revived') - count('purged') - redis.call('LLEN', KEYS[3])
if dead ~= 0 then
    redis.call('HINCRBY', KEYS[1], 'purged', dead)
    changed = 1
end
return changed
