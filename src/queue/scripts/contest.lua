-- Whether the holder of a task's guard still has it. A guard whose holder is gone (its element was
-- taken away by hand) must not keep the task from running.
-- KEYS 1 guards  2 running hash of the holder, or delayed or untold
-- ARGV 1 task id  2 the guard as it was seen  3 claim in the hash, or '' for a sorted set  4 its member there, or ''
-- Returns 1 when the holder has it, 0 when the way is free.

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
    return 0
end
if ARGV[3] ~= '' and redis.call('HEXISTS', KEYS[2], ARGV[3]) == 1 then
    return 1
end
if ARGV[3] == '' and redis.call('ZSCORE', KEYS[2], ARGV[4]) then
    return 1
end
redis.call('HDEL', KEYS[1], ARGV[1])
return 0
