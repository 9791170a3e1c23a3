-- Settles one running job, if its instance still has its lease.
-- KEYS 1 leases  2 running hash of the instance  3 list  4 delayed  5 dead  6 records  7 guards
--      8 recent  9 counts  10 untold
-- ARGV 1 instance  2 claim  3 token of the instance  4 done | retry | untold | dead | returned | left
--      (where the commands put it)
--      5 delay (ms) or envelope  6 record, '' to delete it, '-' to leave it
--      7 how long a second element of the task is set aside after `done` (ms)
--      then commands that follow when it is settled now
-- Returns 1 settled now, 0 not running: settled by an earlier call whose answer was lost, or taken
-- away; -1 the lease is gone.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return -1
end
local held = redis.call('HGET', KEYS[2], ARGV[2])
if not held then
    return 0
end
local id, task, element = held_parts(held)
local outcome = ARGV[4]
local member = ARGV[3] .. '-' .. ARGV[2] .. ':' .. held

redis.call('HDEL', KEYS[2], ARGV[2])
local written
if outcome == 'retry' then
    written = redis.pcall('ZADD', KEYS[4], now + ARGV[5], member)
elseif outcome == 'untold' then
    written = redis.pcall('ZADD', KEYS[10], now + ARGV[5], member)
elseif outcome == 'dead' then
    written = redis.pcall('LPUSH', KEYS[5], ARGV[5])
elseif outcome == 'returned' then
    written = redis.pcall('RPUSH', KEYS[3], element)
end
if type(written) == 'table' and written.err then
    -- The place is not what it should be (a key of another type): the job stays where it is.
    redis.call('HSET', KEYS[2], ARGV[2], held)
    return written
end

if task ~= '' then
    if outcome == 'retry' or outcome == 'untold' then
        redis.call('HSET', KEYS[7], task, (outcome == 'retry' and 'delayed/' or 'untold/') .. member)
    elseif redis.call('HGET', KEYS[7], task) == ARGV[1] .. '/' .. ARGV[2] then
        redis.call('HDEL', KEYS[7], task)
    end
    if outcome == 'done' and ARGV[7] ~= '0' then
        redis.call('ZADD', KEYS[8], now + ARGV[7], task)
    end
end
if ARGV[6] == '' then
    redis.call('HDEL', KEYS[6], id)
elseif ARGV[6] ~= '-' then
    redis.call('HSET', KEYS[6], id, ARGV[6])
end
redis.call('HINCRBY', KEYS[9], outcome, 1)
also(8)
return 1
