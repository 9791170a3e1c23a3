-- Elements in the place of an instance without a lease go back to the take end in their order.
-- KEYS as for `put_back`
-- ARGV 1 instance
-- Returns the number of elements.

if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return 0
end
return put_back(ARGV[1])
