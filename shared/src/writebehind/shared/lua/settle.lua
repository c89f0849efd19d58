-- Tell entries that records of theirs are in the database.
--
-- KEYS     entries (an entry may appear once per generation)
-- ARGV[1]  msgpack: the entity's fields, as for write.lua
-- ARGV[2]  time to live of a clean entry, in milliseconds
-- ARGV[4]  '1' to keep clean entries that hold parts of a row; else whether there is a row is not known: the patch was skipped
--          when there was none
-- ARGV[3]  msgpack {generations, counts, versions, sums}: columns with one value per key, versions the newest; sums one column per
--          Sum field ('' for none)
--
-- A record of another generation means that the entry was made without it (the cache was wiped or unreachable; generation 0: the
-- record was enqueued without the cache, and an entry that was only filled has generation 0 too): the entry may miss it. Clean, it
-- is deleted; else it is tainted. One in doubt is released by the newest record that it was in doubt of. Returns msgpack: the
-- 1-based indexes of tainted entries still pending, which can be healed.
--
-- This is the hot path of the flusher: the bookkeeping is not taken apart, but changed as a text.
local fields, columns = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[3])
local ttl_ms, keep_parts = ARGV[2], ARGV[4] == '1'
local generations, counts, versions, sums = columns[1], columns[2], columns[3], columns[4]
local KEYS = KEYS
local sum_parts = {}
for index = 1, #fields do
  if fields[index][2] == 'sum' then sum_parts[#sum_parts + 1] = ' +' .. fields[index][6] end
end

local function with_lower_sums(header, at)
  for n = 1, #sum_parts do
    local flushed, first, last = sums[n][at], find(header, sum_parts[n], CLEAN, true)
    if first and flushed ~= '' then
      local stop = find(header, ' ', last, true) or #header + 1
      header = sub(header, 1, last) .. add(sub(header, last + 1, stop - 1), negate(flushed)) .. sub(header, stop)
    end
  end
  return header
end

local tainted = {}

local function keep_tainted(key, header, at)
  local entry = read(header)
  if not is_released_by(entry, versions[at]) then
    call('HSET', key, '#', header)
  elseif not release(key, entry, fields) then
    return
  end
  if not entry.doubted then tainted[#tainted + 1] = at end
end

local function taint(key, header, at)
  local lease = find(header, ' l', CLEAN, true) or #header + 1
  local flag = string.upper(sub(header, CLEAN, CLEAN))
  keep_tainted(key, sub(header, 1, CLEAN - 1) .. flag .. sub(header, CLEAN + 1, lease - 1), at)
end

local function settle(key, header, at)
  local pending, stop = pending_of(header)
  local flag, generation = sub(header, CLEAN, CLEAN), generations[at]
  if generation == 0 or tonumber(sub(header, 18, 33)) ~= generation then
    if pending > 0 then taint(key, header, at) else call('DEL', key) end
    return
  end
  pending = pending - counts[at]
  if pending > 0 then
    header = with_lower_sums(sub(header, 1, CLEAN) .. format('%d', pending) .. sub(header, stop), at)
    if flag ~= string.lower(flag) then return keep_tainted(key, header, at) end
    call('HSET', key, '#', header)
  elseif flag == 'c' or flag == 'p' and keep_parts then
    local lease = find(header, ' l', stop, true)
    call('HSET', key, '#', sub(header, 1, CLEAN) .. (lease and sub(header, lease) or ''))
    call('PEXPIRE', key, ttl_ms)
  else
    call('DEL', key)
  end
end

for at = 1, #KEYS do
  local header = call('HGET', KEYS[at], '#')
  if header then settle(KEYS[at], header, at) end
end
return cmsgpack.pack(tainted)
