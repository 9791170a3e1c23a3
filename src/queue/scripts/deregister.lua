-- The end of an instance that runs nothing any more: what it still holds goes back to the take end
-- in its order, at no cost.
-- KEYS as for `release`
-- ARGV 1 instance  2 life of the tombstone (s)
--      then commands that follow
-- Returns the number of elements handed back, or -1 when the lease is gone.

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return -1
end
local returned = release(ARGV[1], 'returned', 'gone', ARGV[2])
also(3)
return returned
