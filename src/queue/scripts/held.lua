
-- What `running` and `delayed` hold: <id of 32 hex digits>:<task id, or ''>:<element>.
-- Anything else was put there by hand: all of it is taken for the element.
local function held_parts(held)
    local colon = string.sub(held, 33, 33) == ':' and string.find(held, ':', 34, true)
    if not colon then
        return '', '', held
    end
    return string.sub(held, 1, 32), string.sub(held, 34, colon - 1), string.sub(held, colon + 1)
end
