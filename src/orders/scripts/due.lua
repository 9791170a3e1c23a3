-- Orders that nobody works on.
-- KEYS 1 orders
-- ARGV 1 at most so many
-- Returns their ids, the longest due first.

return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
