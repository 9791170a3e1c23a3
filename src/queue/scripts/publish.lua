-- Publishes a message, if the instance that says it still has its lease.
-- KEYS 1 leases  2 the note of a job, if one is left
-- ARGV 1 instance  2 message  3 the note  4 seconds until it is forgotten  5 … channels
-- Returns 1, or 0 when the lease is gone.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return 0
end
if KEYS[2] then
    redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4])
end
for index = 5, #ARGV do
    redis.call('PUBLISH', ARGV[index], ARGV[2])
end
return 1
