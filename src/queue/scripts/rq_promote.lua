-- RQ's scheduler for our queue: jobs that are due, and those that a worker of RQ 3 has left between
-- two steps, go to the list. RQ's own keys are many and depend on what is read: they are not in
-- KEYS, so this is not for a Cluster.
-- KEYS 1 rq:scheduler-lock:<queue>  2 rq:scheduled:<queue>  3 rq:ready:<queue>  4 list  5 rq_ended
-- ARGV 1 holder of the lock  2 life of the lock (s)  3 most jobs  4 date
-- Returns whether there are ended jobs whose dependents have not been told.

local function push(registry, id, status)
    local job = 'rq:job:' .. id
    local fields = redis.call('HMGET', job, 'data', 'status', 'ttl', 'enqueue_at_front')
    redis.call('ZREM', registry, id)
    if not fields[1] or fields[2] ~= status then
        return
    end
    redis.call('HSET', job, 'status', 'queued', 'enqueued_at', ARGV[4])
    if tonumber(fields[3]) and tonumber(fields[3]) > 0 then
        redis.call('EXPIRE', job, fields[3])
    end
    redis.call('SADD', 'rq:queues', KEYS[4])
    redis.call(fields[4] == '1' and 'LPUSH' or 'RPUSH', KEYS[4], id)
end

local now = tonumber(redis.call('TIME')[1])
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[3])
if due[1] then
    local holder = redis.call('GET', KEYS[1])
    if not holder or holder == ARGV[1] then
        redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
        for _, id in ipairs(due) do
            push(KEYS[2], id, 'scheduled')
        end
    end
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, ARGV[3] - 1)) do
    push(KEYS[3], id, 'ready_to_enqueue')
end
return redis.call('EXISTS', KEYS[5])
