-- Hands over what waits, without waiting for more. A move into the place of an instance that is
-- gone fails.
-- KEYS 1 leases  2 list  3 claimed list of the instance
-- ARGV 1 most elements
-- Returns the elements, the oldest first.

-- A server that is out of memory refuses a script's first command when it may need memory, and
-- lets everything pass after a write that does not: here and in the other scripts such a write
-- comes first. So a full server can be drained, which BLMOVE alone cannot do.
redis.call('ZREM', KEYS[1], '')
local taken = {}
for index = 1, tonumber(ARGV[1]) do
    local element = redis.call('LMOVE', KEYS[2], KEYS[3], 'RIGHT', 'LEFT')
    if not element then
        break
    end
    taken[index] = element
end
return taken
