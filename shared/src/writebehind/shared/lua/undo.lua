-- Take back writes that definitely failed, each exactly as far as nothing newer has replaced it.
--
-- KEYS     one entry per write
-- ARGV[1]  msgpack: the entity's fields, as for write.lua
-- ARGV[2]  msgpack, per key: {version, generation, patch, undo}; patch as for write.lua, undo as write.lua gave it
--
-- The entry is tainted: when nothing is pending any more it is deleted, so whatever could not be told apart here mends itself.
-- A newer write of a field keeps its value; a note '#u:VERSION:FIELD' lets that write's own undo restore what was before both.
-- A Max or Min that goes back to what was before may miss a lower candidate of another pending write, until that is flushed.
local fields, writes = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])

local function before(key, name, value, mark)
  while mark do
    local note = call('HGET', key, '#u:' .. mark .. ':' .. name)
    if not note then break end
    local noted_mark, there, noted_value = string.match(note, '^(%d*) ([01])(.*)$')
    value, mark = there == '1' and noted_value, noted_mark ~= '' and noted_mark
  end
  return value, mark
end

local function restore(key, entry, field, value, mark)
  if value then
    call('HSET', key, field[1], value)
  else
    -- The row was loaded since, but not over the field that the undone write held: the entry is partial again.
    call('HDEL', key, field[1])
    if entry.holds == 'c' then entry.holds = 'p' end
  end
  entry.marks[field[6]] = mark or nil
end

local function undo_field(key, entry, version, field, value, mark)
  value, mark = before(key, field[1], value, mark)
  if entry.marks[field[6]] == version then
    restore(key, entry, field, value, mark)
  else
    local note = (mark or '') .. ' ' .. (value and '1' .. value or '0')  -- text, as everything in an entry
    call('HSET', key, '#u:' .. version .. ':' .. field[1], note)
  end
end

local function undo_sum(key, entry, field, delta)
  local name, id, back = field[1], field[6], negate(delta)
  local current = call('HGET', key, name)
  if current and current ~= '\0' then call('HSET', key, name, add(current, back)) end
  if entry.sums[id] then entry.sums[id] = add(entry.sums[id], back) end
end

local function undo_patch(key, entry, version, patch, undo)
  local marks = read(undo[1]).marks
  for at = 1, #patch, 2 do
    local field, value, old = fields[patch[at]], patch[at + 1], undo[at / 2 + 1.5]
    local merge = field[2]
    if merge == 'sum' then
      undo_sum(key, entry, field, value)
    elseif merge == 'last' or pick(old, value, merge, field[3]) ~= old then
      undo_field(key, entry, version, field, old, marks[field[6]])
    end
  end
end

local function undo_delete(key, entry, version, undo)
  if entry.delete ~= version then return end
  local old = read(undo[1])
  entry.delete, entry.holds = false, old.holds
  for index = 1, #fields do
    local field, value = fields[index], undo[index + 1]
    if value and call('HSETNX', key, field[1], value) == 1 then entry.marks[field[6]] = old.marks[field[6]] end
  end
end

for at = 1, #KEYS do
  local key, write = KEYS[at], writes[at]
  local entry = read(call('HGET', key, '#'))
  if present(entry) and tonumber(entry.generation) == write[2] then
    entry.pending = entry.pending - 1
    if entry.pending <= 0 then
      call('DEL', key)
    else
      local version, patch = text(write[1]), write[3]
      if patch[1] then undo_patch(key, entry, version, patch, write[4]) else undo_delete(key, entry, version, write[4]) end
      entry.tainted = true
      call('HSET', key, '#', written(entry, fields))
    end
  end
end
return 1
