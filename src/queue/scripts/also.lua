
-- The commands that the caller wants to happen in the same instant: ARGV from `index` on holds, for
-- each, the number of its words and the words.
local function also(index)
    while ARGV[index] do
        local words = tonumber(ARGV[index])
        redis.call(unpack(ARGV, index + 1, index + words))
        index = index + 1 + words
    end
end
