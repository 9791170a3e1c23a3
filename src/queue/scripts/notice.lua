-- The calls that tell the backend of failures: each is made by one instance at a time.
-- KEYS 1 notices
-- ARGV 1 add | claim | later | drop  2 the notice, or '' to claim the first that is due
--      3 ms until it is due, or until another instance may make a call that was claimed
-- Returns {notice or '', ms until the next one is due or -1}.

redis.call('ZREM', KEYS[1], '')
local notice = ARGV[2]
if ARGV[1] == 'add' then
    redis.call('ZADD', KEYS[1], 'NX', now + ARGV[3], notice)
elseif ARGV[1] == 'later' then
    redis.call('ZADD', KEYS[1], 'XX', now + ARGV[3], notice)
elseif ARGV[1] == 'drop' then
    redis.call('ZREM', KEYS[1], notice)
else
    notice = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1] or ''
    if notice ~= '' then
        redis.call('ZADD', KEYS[1], now + ARGV[3], notice)
    end
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {notice, #first > 0 and math.max(0, tonumber(first[2]) - now) or -1}
