-- Set right entries that miss records of another generation and never become clean, because they are written all the time.
--
-- KEYS     entries
-- ARGV[1]  msgpack: the entity's fields, as for write.lua
-- ARGV[2]  '1' to keep the taint (the entity allows deletes: a pending sum may still hold deltas older than a delete)
-- ARGV[3]  msgpack, per key: {row exists, {index, value, ...}, {index, version, ...}}: the row's fields, and the versions it holds of
--          its Last fields
--
-- An undo's taint ('2') stays: it may hide a value that is neither in the row yet nor, since the undo, in the entry (a lower
-- candidate, or an older write of a field whose refused write gave way to nothing). The entry is reloaded once it is clean.
-- Called by the row's only writer when all it committed is settled and before it commits more: row value + unsettled deltas is
-- then exact.
local fields, rows = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[3])
for at, key in ipairs(KEYS) do
  local found = redis.call('HMGET', key, '#x', '#p')
  if found[1] and found[2] then
    local exists, values = rows[at][1], {}
    local versions = {}
    for n = 1, #rows[at][2], 2 do values[rows[at][2][n]] = rows[at][2][n + 1] end
    for n = 1, #rows[at][3], 2 do versions[rows[at][3][n]] = rows[at][3][n + 1] end
    for index, field in ipairs(fields) do
      local name, merge, value = field[1], field[2], values[index]
      local held = redis.call('HMGET', key, name, '~' .. name, '+' .. name)
      if merge == 'sum' then
        local base = (value and value ~= '\0') and value or '0'
        if value or held[3] then redis.call('HSET', key, name, add(base, held[3] or '0')) end
      elseif merge ~= 'last' then
        if value and value ~= '\0' then redis.call('HSET', key, name, pick(held[1], value, merge, field[3])) end
      elseif not held[2] or tonumber(held[2]) <= (versions[index] or 0) then
        -- A mark stays until the whole entry is clean; one that the row has caught up with is no reason to keep the value.
        if value then redis.call('HSET', key, name, value) else redis.call('HDEL', key, name) end
      end
    end
    redis.call('HSET', key, '#c', exists and '1' or '0')
    if ARGV[2] ~= '1' and found[1] == '1' then redis.call('HDEL', key, '#x') end
  end
end
return 1
