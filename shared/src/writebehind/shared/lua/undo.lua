-- Take back writes that definitely failed, each exactly as far as nothing newer has replaced it.
--
-- KEYS     one entry per write
-- ARGV[1]  msgpack: the entity's fields, as for write.lua
-- ARGV[2]  msgpack, per key: {version, generation, patch, undo}; patch as for write.lua, undo as write.lua gave it
-- ARGV[3]  '1' when they reached the log and the database refused them, so that one may be what ends an entry's doubt
--
-- The entry is tainted, for good (heal.lua keeps it): when nothing is pending any more it is deleted, so whatever could not be
-- told apart here mends itself.
-- A newer write of a field keeps its value; a note '#u:VERSION:FIELD' lets that write's own undo restore what was before both,
-- and so does '#u:VERSION:' for what a delete found. That of a Sum is the delta to take off what a newer delete found.
-- An entry in doubt holds the writes of the generations before as well, but does not count them.
-- A Max or Min that goes back to what was before may miss a lower candidate of another pending write, until that is flushed.
local fields, writes, refused = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2]), ARGV[3] == '1'

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
    -- The row was loaded since, or made by a write that was flushed, but not over the field that the undone write held: the
    -- entry is partial again. Under a pending delete it is not: the row is still there, and must not show.
    call('HDEL', key, field[1])
    if entry.holds == 'c' or not entry.delete then entry.holds = 'p' end
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

local function undo_sum(key, entry, version, field, delta, old, counted)
  local name, id, back = field[1], field[6], negate(delta)
  local current, held = call('HGET', key, name), counted and entry.sums[id]
  held = held and add(held, back)
  if held then entry.sums[id] = held end
  if entry.delete and entry.delete > version then
    call('HSET', key, '#u:' .. version .. ':' .. name, back)  -- what a newer delete found has the delta, not what is shown
    return
  end
  if not current or current == '\0' then return end
  local value = add(current, back)
  -- After a delete the deltas that are held may be of before it; those that are shown are not.
  local left = entry.delete and value or held or not counted and not entry.sums[id] and value
  if not old and left and not find(left, '[1-9]') then
    call('HDEL', key, name)  -- there was nothing, and no other delta is pending
  else
    call('HSET', key, name, value)
  end
end

local function undo_patch(key, entry, version, patch, undo, counted)
  local marks = read(undo[1]).marks
  for at = 1, #patch, 2 do
    local field, value, old = fields[patch[at]], patch[at + 1], undo[at / 2 + 1.5]
    local merge = field[2]
    if merge == 'sum' then
      undo_sum(key, entry, version, field, value, old, counted)
    elseif merge == 'last' or pick(old, value, merge, field[3]) ~= old then
      undo_field(key, entry, version, field, old, marks[field[6]])
    end
  end
end

-- What an entry held before a delete and those before it that were undone since.
local function held_before(key, old)
  local holds, deleted = old.holds, old.delete
  while deleted do
    local note = call('HGET', key, '#u:' .. deleted .. ':')
    if not note then break end
    holds, deleted = string.match(note, '^(.)(%d*)$')
    deleted = deleted ~= '' and deleted
  end
  return holds, deleted
end

-- What to take off a sum that a delete found: deltas that were undone under it, of writes after the delete before it.
local function undone_under(key, name, before, version)
  local total = false
  for _, note in ipairs(call('HKEYS', key)) do
    local mark = sub(note, 4, 19)
    if sub(note, 1, 3) == '#u:' and sub(note, 20) == ':' .. name and mark > before and mark < version then
      total = add(total or '0', call('HGET', key, note))
    end
  end
  return total
end

-- A sum that only undone writes had made is not there.
local function restore_sum(key, name, value, undone, holds)
  value = add(value, undone or '0')
  if not undone or holds == 'c' or find(value, '[1-9]') then
    call('HSET', key, name, add(value, call('HGET', key, name) or '0'))
  end
end

local function undo_delete(key, entry, version, undo)
  local old = read(undo[1])
  local holds, deleted = held_before(key, old)
  local newest = entry.delete == version
  for index = 1, #fields do
    local field, value = fields[index], undo[index + 1]
    if field[2] ~= 'sum' then
      undo_field(key, entry, version, field, value, old.marks[field[6]])
    elseif value and value ~= '\0' and newest then
      restore_sum(key, field[1], value, undone_under(key, field[1], old.delete or '', version), holds)
    end
  end
  if newest then
    entry.holds, entry.delete = holds, deleted
  else
    call('HSET', key, '#u:' .. version .. ':', holds .. (deleted or ''))
  end
end

local function was_before(entry, generation)
  for before in gmatch(entry.doubted or '', ('%d'):rep(16)) do
    if tonumber(before) == generation then return true end
  end
  return false
end

local function take_back(key, entry, write, counted)
  local version, patch, undo = text(write[1]), write[3], write[4]
  if patch[1] then undo_patch(key, entry, version, patch, undo, counted) else undo_delete(key, entry, version, undo) end
  entry.tainted, entry.undone = true, true
  if refused and is_released_by(entry, write[1]) then
    release(key, entry, fields)
  else
    call('HSET', key, '#', written(entry, fields))
  end
end

for at = 1, #KEYS do
  local key, write = KEYS[at], writes[at]
  local entry = read(call('HGET', key, '#'))
  local counted = present(entry) and tonumber(entry.generation) == write[2]
  if counted or was_before(entry, write[2]) then
    if counted then entry.pending = entry.pending - 1 end
    if entry.pending <= 0 then call('DEL', key) else take_back(key, entry, write, counted) end
  end
end
return 1
