-- Fill entries from rows, where the reader's token is still there: a flush or an invalidation in between has voided it.
--
-- KEYS     entries
-- ARGV[1]  msgpack: the entity's fields, as for write.lua
-- ARGV[2]  token, ARGV[3] time to live of a clean entry, in milliseconds, ARGV[5] of one that says that there is no row
-- ARGV[4]  msgpack, per key: {row exists, newest version of the row, {index, value, ...}}
--
-- Only absent fields are set: what a write put there is newer. A candidate of Max or Min that is there is combined with the row's. Returns msgpack {filled, ...}
local fields, rows = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[4])
local token, ttl_ms, negative_ttl_ms = ARGV[2] .. ':', ARGV[3], ARGV[5]

local function complete(key, entry, row)
  for n = 1, #row[3], 2 do
    local field, value = fields[row[3][n]], row[3][n + 1]
    local name = field[1]
    if call('HSETNX', key, name, value) == 0 and (field[2] == 'max' or field[2] == 'min') then
      take_candidate(key, entry, field, value)
    end
  end
  if tonumber(entry.version) < row[2] then entry.version = text(row[2]) end
  entry.holds = row[1] and 'c' or 'n'
end

local replies = {}
for at = 1, #KEYS do
  local key = KEYS[at]
  local entry = read(call('HGET', key, '#'))
  local filled = entry.lease and sub(entry.lease, 1, #token) == token and true or false
  if filled then
    if entry.holds == 'p' then complete(key, entry, rows[at]) end
    entry.lease = false
    call('HSET', key, '#', written(entry, fields))
    if entry.pending == 0 then call('PEXPIRE', key, entry.holds == 'n' and negative_ttl_ms or ttl_ms) end
  end
  replies[at] = filled
end
return cmsgpack.pack(replies)
