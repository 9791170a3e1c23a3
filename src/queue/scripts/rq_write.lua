-- Writes into RQ's books, if the instance whose they are is there and, with a claim, has the job.
-- KEYS 1 leases  2 running hash of the instance
-- ARGV 1 instance  2 claim, or ''
--      then commands that follow
-- Returns 1, or 0 when nothing was written.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return 0
end
if ARGV[2] ~= '' and redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then
    return 0
end
also(3)
return 1
