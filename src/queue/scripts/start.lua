-- Starts claimed jobs: from here on they count as running.
-- KEYS 1 leases  2 claimed list of the instance  3 its running hash  4 list  5 records  6 guards
--      7 recent  8 paused  9 cancelled  10 rq:suspended, where RQ's pause is ours too
-- ARGV 1 instance  2 its name for `paused`  3 number of elements, then for each, the oldest first:
--      element, claim, id, task id or '', 'force' or ''
--      then commands that follow when the first one is started
-- Returns {-1} when the lease is gone, {0} when paused (all went back to the take end), else for
-- each element two values:
--      'started', its record or ''   'held', the guard   'recent', until when (ms)   'cancelled', ''
--      'gone', ''

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return {-1}
end
local number = tonumber(ARGV[3])
local paused = redis.call('HMGET', KEYS[8], '*', ARGV[2])
if paused[1] or paused[2] or (KEYS[10] and redis.call('EXISTS', KEYS[10]) == 1) then
    -- The newest first, so that the oldest is taken first again.
    for index = number - 1, 0, -1 do
        local element = ARGV[4 + index * 5]
        if redis.call('LREM', KEYS[2], 1, element) == 1 then
            redis.call('RPUSH', KEYS[4], element)
        end
    end
    return {0}
end

local answers = {}
for index = 0, number - 1 do
    local at = 4 + index * 5
    local element, claim, id, task = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local holder = ARGV[1] .. '/' .. claim
    local guard, recent
    local cancelled = task ~= '' and redis.call('ZSCORE', KEYS[9], task)
    if task ~= '' and ARGV[at + 4] == '' then
        guard = redis.call('HGET', KEYS[6], task)
        recent = not guard and redis.call('ZSCORE', KEYS[7], task)
    end
    local answer, detail
    if redis.call('HEXISTS', KEYS[3], claim) == 1 then
        -- An earlier call whose answer was lost. First of all: an equal element may be claimed too.
        answer, detail = 'started', redis.call('HGET', KEYS[5], id) or ''
    elseif cancelled and tonumber(cancelled) > now then
        answer, detail = 'cancelled', ''
    elseif guard and guard ~= holder then
        answer, detail = 'held', guard
    elseif recent and tonumber(recent) > now then
        answer, detail = 'recent', recent
    elseif redis.call('LREM', KEYS[2], -1, element) == 1 then
        redis.call('HSET', KEYS[3], claim, id .. ':' .. task .. ':' .. element)
        if task ~= '' then
            redis.call('HSET', KEYS[6], task, holder)
        end
        answer, detail = 'started', redis.call('HGET', KEYS[5], id) or ''
        if index == 0 then
            also(4 + number * 5)
        end
    else
        answer, detail = 'gone', ''
    end
    answers[#answers + 1] = answer
    answers[#answers + 1] = detail
end
return answers
