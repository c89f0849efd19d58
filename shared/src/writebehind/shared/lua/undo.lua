-- Take back writes that definitely failed, each exactly as far as nothing newer has replaced it.
--
-- KEYS     one entry per write
-- ARGV[1]  msgpack: the entity's fields, as for write.lua
-- ARGV[2]  msgpack, per key: {version, generation, is delete, sums, undo}; sums {index, delta, ...}, undo as write.lua gave it
--
-- The entry is tainted, with '2', which heal.lua keeps: when nothing is pending any more it is deleted, so whatever could not be
-- told apart here mends itself.
-- A newer write of a field keeps its value; a note '#u:VERSION:FIELD' lets that write's own undo restore what was before both.
-- A Max or Min that goes back to what was before may miss a lower candidate of another pending write, until that is flushed.
local fields, writes = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])

local function before(key, name, value, mark)
  while mark do
    local note = redis.call('HGET', key, '#u:' .. mark .. ':' .. name)
    if not note then break end
    local noted_mark, there, noted_value = string.match(note, '^(%d*) ([01])(.*)$')
    value, mark = there == '1' and noted_value, noted_mark ~= '' and noted_mark
  end
  return value, mark
end

local function restore(key, name, value, mark)
  if value then
    redis.call('HSET', key, name, value)
  else
    -- The row was loaded since, or made by a write that was flushed, but not over the field that the undone write held: the
    -- entry is partial again. Under a pending delete it is not: the row is still there, and must not show.
    redis.call('HDEL', key, name)
    if redis.call('HGET', key, '#c') == '1' or not redis.call('HGET', key, '#d') then redis.call('HDEL', key, '#c') end
  end
  if mark then redis.call('HSET', key, '~' .. name, mark) else redis.call('HDEL', key, '~' .. name) end
end

local function undo_fields(key, version, undo, first)
  for at = first, #undo, 3 do
    local name = fields[undo[at]][1]
    local value, mark = before(key, name, undo[at + 1], undo[at + 2])
    if redis.call('HGET', key, '~' .. name) == version then
      restore(key, name, value, mark)
    else
      local note = (mark or '') .. ' ' .. (value and '1' .. value or '0')  -- text, as everything in an entry
      redis.call('HSET', key, '#u:' .. version .. ':' .. name, note)
    end
  end
end

local function undo_sums(key, sums)
  for at = 1, #sums, 2 do
    local name, delta = fields[sums[at]][1], negate(sums[at + 1])
    local found = redis.call('HMGET', key, name, '+' .. name)
    if found[1] and found[1] ~= '\0' then redis.call('HSET', key, name, add(found[1], delta)) end
    if found[2] then redis.call('HSET', key, '+' .. name, add(found[2], delta)) end
  end
end

local function undo_delete(key, version, undo)
  if redis.call('HGET', key, '#d') ~= version then return end
  redis.call('HDEL', key, '#d')
  if undo[1] then redis.call('HSET', key, '#c', undo[1]) else redis.call('HDEL', key, '#c') end
  for at = 2, #undo, 3 do
    local name = fields[undo[at]][1]
    if redis.call('HSETNX', key, name, undo[at + 1]) == 1 and undo[at + 2] then
      redis.call('HSET', key, '~' .. name, undo[at + 2])
    end
  end
end

for at, key in ipairs(KEYS) do
  local write = writes[at]
  local version, found = text(write[1]), redis.call('HMGET', key, '#g', '#p')
  local pending = (tonumber(found[2]) or 0) - 1
  if found[1] and tonumber(found[1]) == write[2] then
    if pending <= 0 then
      redis.call('DEL', key)
    else
      if write[3] then undo_delete(key, version, write[5]) else undo_fields(key, version, write[5], 1) end
      undo_sums(key, write[4])
      redis.call('HSET', key, '#p', text(pending), '#x', '2')
    end
  end
end
return 1
