-- Notes what a process that has died had found out about its job, if the job still waits for an
-- end: in the hands of the dead instance, or taken back from it and not started since.
-- KEYS 1 running hash of the instance  2 records  3 list
-- ARGV 1 claim  2 id  3 record  4 element  5 the record that says that it was taken back, or ''
-- Returns 1 noted, 0 too late: somebody else has the job, or it has ended.

redis.call('HDEL', KEYS[2], '')
local held = redis.call('HGET', KEYS[1], ARGV[1])
local is_held = held and string.sub(held, 1, 32) == ARGV[2]
-- An equal element that waits is not enough: it may be another order.
local is_back = ARGV[5] ~= '' and redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[5] and redis.call('LPOS', KEYS[3], ARGV[4])
if is_held or is_back then
    redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
    return 1
end
return 0
