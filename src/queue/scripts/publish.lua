-- Publishes a message, if the instance that says it still has its lease.
-- KEYS 1 leases
-- ARGV 1 instance  2 message  3 … channels
-- Returns 1, or 0 when the lease is gone.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return 0
end
for index = 3, #ARGV do
    redis.call('PUBLISH', ARGV[index], ARGV[2])
end
return 1
