-- Repair entries, each only while it is still what the audit saw.
--
-- KEYS     entries
-- ARGV[1]  time to live of a clean entry, in milliseconds
-- ARGV[2]  msgpack, per key: {action, bookkeeping without lease, {field, value or false, ...}, marks, sums, deleted}
--          action: 'd' delete it; 's' settle it, nothing is pending any more; 'e' its lost writes are enqueued again
--          for 'e': marks are the ids of fields, sums {id, delta, ...}, and deleted says that a delete is enqueued
--
-- A lease is no part of what was seen: a reader who holds it finds it gone and fills nothing.
-- An entry whose writes are enqueued again has one pending write and a new version, so that it is not repaired twice, and is
-- tainted: it is deleted when that is flushed, so that the row is read again. Returns msgpack: per key {generation}, false for
-- one that has moved on.
local ttl_ms, repairs = ARGV[1], cmsgpack.unpack(ARGV[2])
local time = call('TIME')
local now = time[1] * 1000000 + time[2]

local function is_as_seen(key, header, seen)
  local there = call('HGET', key, '#')
  if not there then return false end
  local lease = find(there, ' l', CLEAN, true)
  if lease then there = sub(there, 1, lease - 1) end
  if there ~= header then return false end
  for n = 1, #seen, 2 do
    if call('HGET', key, seen[n]) ~= seen[n + 1] then return false end
  end
  return true
end

local function enqueued(key, header, marks, sums, deleted)
  local version, generation = math.max(now, tonumber(sub(header, 1, 16)) + 1), tonumber(sub(header, 18, 33))
  if generation == 0 then generation = version end
  local changed = text(version) .. ' ' .. text(generation) .. string.upper(sub(header, CLEAN, CLEAN)) .. '1'
  if marks ~= '' then changed = changed .. ' =' .. marks end
  for n = 1, #sums, 2 do changed = changed .. ' +' .. sums[n] .. sums[n + 1] end
  if deleted then changed = changed .. ' d' .. text(version) end
  call('HSET', key, '#', changed)
  call('PERSIST', key)
  return {generation}
end

local function settled(key, header)
  local flag = sub(header, CLEAN, CLEAN)
  if flag == 'c' or flag == 'p' then
    call('HSET', key, '#', sub(header, 1, CLEAN))
    call('PEXPIRE', key, ttl_ms)
  else
    call('DEL', key)
  end
end

local replies = {}
for at = 1, #KEYS do
  local key, repair = KEYS[at], repairs[at]
  local header = repair[2]
  if not is_as_seen(key, header, repair[3]) then
    replies[at] = false
  elseif repair[1] == 'e' then
    replies[at] = enqueued(key, header, repair[4], repair[5], repair[6])
  else
    if repair[1] == 's' then settled(key, header) else call('DEL', key) end
    replies[at] = {0}
  end
end
return cmsgpack.pack(replies)
