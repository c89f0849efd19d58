-- Fill entries from rows, where the reader's token is still there: a flush or an invalidation in between has voided it.
--
-- KEYS     entries
-- ARGV[1]  msgpack: the entity's fields, as for write.lua
-- ARGV[2]  token, ARGV[3] time to live of a clean entry, in milliseconds
-- ARGV[4]  msgpack, per key: {row exists, newest version of the row, {index, value, ...}}
--
-- Only absent fields are set: what a write put there is newer. A candidate of Max or Min that is there is combined with the row's. Returns msgpack {filled, ...}
local fields, rows = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[4])
local token, ttl_ms = ARGV[2] .. ':', ARGV[3]
local replies = {}
for at, key in ipairs(KEYS) do
  local found = redis.call('HMGET', key, '#l', '#v', '#g', '#p', '#c')
  local filled = found[1] and string.sub(found[1], 1, #token) == token and true or false
  if filled then
    local row = rows[at]
    if not found[5] then
      for n = 1, #row[3], 2 do
        local field, value = fields[row[3][n]], row[3][n + 1]
        local name = field[1]
        if redis.call('HSETNX', key, name, value) == 0 and value ~= '\0' and (field[2] == 'max' or field[2] == 'min') then
          redis.call('HSET', key, name, pick(redis.call('HGET', key, name), value, field[2], field[3]))
        end
      end
      local version = math.max(tonumber(found[2]) or 0, row[2])
      redis.call('HSET', key, '#v', text(version), '#g', found[3] or '0', '#c', row[1] and '1' or '0')
    end
    redis.call('HDEL', key, '#l')
    if not found[4] then redis.call('PEXPIRE', key, ttl_ms) end
  end
  replies[at] = filled
end
return cmsgpack.pack(replies)
