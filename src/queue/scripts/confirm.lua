-- Whether a job is still ours, with a whole lease ahead, and what is noted about it.
-- KEYS 1 leases  2 running hash of the instance  3 records
-- ARGV 1 instance  2 claim  3 lease (ms)  4 id  5 record to note, or ''
-- Returns 1, or 0 when the job or the lease is gone.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) or redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then
    return 0
end
redis.call('ZREM', KEYS[1], '')
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
if ARGV[5] ~= '' then
    redis.call('HSET', KEYS[3], ARGV[4], ARGV[5])
end
return 1
