-- Set right entries that miss records of another generation and never become clean, because they are written all the time.
--
-- KEYS     entries
-- ARGV[1]  msgpack: the entity's fields, as for write.lua
-- ARGV[2]  '1' to keep the taint (the entity allows deletes: a pending sum may still hold deltas older than a delete)
-- ARGV[3]  msgpack, per key: {row exists, {index, value, ...}, {index, version, ...}, version}: the row's fields, the versions it holds
--          of its Last fields, and the version of the key's last delete (0: none)
-- ARGV[4]  when the rows are too old for this, in microseconds: another flusher may be the writer by then
--
-- An entry after an undo stays tainted: it may hide a value that is neither in the row yet nor, since the undo, in the entry (a
-- lower candidate, or an older write of a field whose refused write gave way to nothing). It is reloaded once it is clean.
-- Called by the row's only writer when all it committed is settled and before it commits more: row value + unsettled deltas is
-- then exact. Not so while a delete is pending, or while the entry is in doubt: such an entry is left as it is. A delete that the
-- entry knows nothing of takes what is older out of it, also a lower candidate of a Max that is pending: that is missed until it
-- is flushed.
local fields, rows = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[3])
local time = call('TIME')
if time[1] * 1000000 + time[2] > tonumber(ARGV[4]) then return 0 end

local function by_index(pairs_of)
  local found = {}
  for n = 1, #pairs_of, 2 do found[pairs_of[n]] = pairs_of[n + 1] end
  return found
end

local function put(key, name, value)
  if value then call('HSET', key, name, value) else call('HDEL', key, name) end
end

local function heal(key, entry, row)
  local values, versions, deleted = by_index(row[2]), by_index(row[3]), row[4]
  for index = 1, #fields do
    local field, value = fields[index], values[index]
    local name, merge, id = field[1], field[2], field[6]
    local mark, held = entry.marks[id], entry.sums[id]
    if merge == 'sum' then
      local base = (value and value ~= '\0') and value or '0'
      local there = value or held and find(held, '[1-9]')  -- nothing pending makes no row
      put(key, name, there and add(base, held or '0'))
    elseif merge ~= 'last' then
      if deleted > 0 and tonumber(mark or 0) <= deleted then  -- of a row that is gone
        call('HDEL', key, name)
        entry.marks[id] = nil
      end
      if value then take_candidate(key, entry, field, value) end
    elseif not mark or tonumber(mark) <= math.max(versions[index] or 0, deleted) then
      -- A mark stays until the whole entry is clean; one that the row has caught up with is no reason to keep the value.
      put(key, name, value)
    end
  end
  entry.holds, entry.tainted = row[1] and 'c' or 'n', ARGV[2] == '1' or entry.undone
  call('HSET', key, '#', written(entry, fields))
end

for at = 1, #KEYS do
  local entry, row = read(call('HGET', KEYS[at], '#')), rows[at]
  if entry.delete and tonumber(entry.delete) <= row[4] then entry.delete = false end
  if entry.tainted and entry.pending > 0 and not entry.delete and not entry.doubted then heal(KEYS[at], entry, row) end
end
return 1
