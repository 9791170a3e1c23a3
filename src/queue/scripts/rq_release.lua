-- Enqueues what waits for jobs that have ended. What is read and what is written belong together:
-- a dependent that is enqueued meanwhile is seen, or its producer, who watches the parent, starts
-- anew and sees the parent's end. RQ's keys depend on what is read: not for a Cluster.
-- KEYS 1 rq_ended
-- ARGV 1 most jobs  2 date
-- Returns the number of jobs that are still to be told of.

local function is_met(child, parent, parent_status, allows_failure)
    local function is_good(status)
        return status == 'finished' or (allows_failure and status == 'failed')
    end
    if not is_good(parent_status) then
        return false
    end
    for _, id in ipairs(redis.call('SMEMBERS', 'rq:job::' .. child .. ':dependencies')) do
        if id ~= parent then
            local status = redis.call('HGET', 'rq:job:' .. id, 'status')
            -- One that is gone was finished: so RQ has it.
            if status and not is_good(status) then
                return false
            end
        end
    end
    return true
end

local ended = redis.call('HGETALL', KEYS[1])
local most = math.min(#ended, 2 * ARGV[1])
for index = 1, most, 2 do
    local parent, status = ended[index], ended[index + 1]
    local dependents = 'rq:job:' .. parent .. ':dependents'
    for _, child in ipairs(redis.call('SMEMBERS', dependents)) do
        local job = 'rq:job:' .. child
        local fields = redis.call('HMGET', job, 'data', 'status', 'origin', 'allow_dependency_failures', 'enqueue_at_front', 'ttl')
        if fields[1] and fields[2] == 'deferred' and is_met(child, parent, status, fields[4] == '1') then
            local queue = 'rq:queue:' .. (fields[3] or '')
            redis.call('ZREM', 'rq:deferred:' .. (fields[3] or ''), child)
            redis.call('HSET', job, 'status', 'queued', 'enqueued_at', ARGV[2])
            if tonumber(fields[6]) and tonumber(fields[6]) > 0 then
                redis.call('EXPIRE', job, fields[6])
            end
            redis.call('SADD', 'rq:queues', queue)
            redis.call(fields[5] == '1' and 'LPUSH' or 'RPUSH', queue, child)
            redis.call('SREM', dependents, child)
        end
    end
    if redis.call('EXISTS', 'rq:job:' .. parent) == 0 then
        redis.call('DEL', dependents)
    end
    redis.call('HDEL', KEYS[1], parent)
end
return (#ended - most) / 2
